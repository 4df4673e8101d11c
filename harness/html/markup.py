"""Making HTML from strings: text is escaped where it enters, markup is only ever concatenated."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Iterable
from typing import Any

from harness.palette import GRID, INK, METHODS, MUTED, OTHERS, PAPER, REFERENCES


def text(value: object) -> str:
    """`value` as text that cannot become markup."""
    return html.escape(str(value), quote=True)


def join(parts: Iterable[str]) -> str:
    """Markup one below the other."""
    return "\n".join(parts)


def tag(name: str, inner: str = "", *, cls: str = "", **attributes: object) -> str:
    """`<name attributes>inner</name>`; `inner` is markup, attribute values are escaped.

    Underscores in attribute names become hyphens; None leaves an attribute out, True leaves out
    its value.
    """
    given = {"class": cls or None, **attributes}
    written = "".join(
        f" {key.replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in given.items() if value is not None and value is not False
    )
    return f"<{name}{written}>{inner}</{name}>"


def command(line: str) -> str:
    """A command with a button that copies it."""
    button = tag("button", text("Copy"), type="button", cls="copy", data_copy=line,
                 aria_label=f"Copy the command {line}")
    return tag("span", tag("code", text(line)) + button, cls="command")


def table(head: Iterable[str], rows: Iterable[Iterable[str]], caption: str,
          quiet: bool = False) -> str:
    """A plain table of markup cells; the first of each row is its header, `caption` is text, and
    `quiet` if it is for those who do not see the heading above it."""
    headers = join(tag("th", h, scope="col") for h in head)
    lines = []
    for row in rows:
        first, *others = row
        cells = tag("th", first, scope="row") + join(tag("td", c) for c in others)
        lines.append(tag("tr", cells))
    inner = (tag("caption", text(caption), cls="quiet" if quiet else "")
             + tag("thead", tag("tr", headers))
             + tag("tbody", join(lines)))
    return scroll(tag("table", inner), caption)


def scroll(inner: str, label: str) -> str:
    """A region that scrolls sideways on narrow screens and can be reached by keyboard."""
    return tag("div", inner, cls="scroll", tabindex="0", role="region", aria_label=label)


def embed(value: Any) -> str:
    """JSON for a script element: `<` cannot end it."""
    dumped = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def download(label: str, name: str, content: str, kind: str = "text/plain") -> str:
    """A link that carries its file; beyond a megabyte it is compressed (same bytes every time)."""
    data = content.encode()
    if len(data) > 1_000_000:
        data = gzip.compress(data, compresslevel=6, mtime=0)
        name, kind = f"{name}.gz", "application/gzip"
    link = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return tag("a", text(label), href=link, download=name)


def inline_svg(svg: str, label: str, prefix: str) -> str:
    """An SVG file made by matplotlib as part of the page.

    Its identifiers get a prefix, since a page may hold several; its colours become the page's
    variables, so that it follows dark mode; `label` names it for those who do not see it.
    """
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", svg)
    variables = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "paper"}
    colors = {m.color for m in (*METHODS.values(), *OTHERS, *REFERENCES)}
    variables |= {color: f"m-{color[1:]}" for color in colors}
    for color, name in variables.items():
        svg = svg.replace(color, f"var(--{name})")
    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{text(label)}">{rest}'
