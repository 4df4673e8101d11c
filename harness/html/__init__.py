"""report.html: one file that opens from disk, asks nothing of a network, works without a mouse.

Every section is a function from the `Content` to a `Section`; adding one to `SECTIONS` adds it to
the page and to its navigation.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.html.cards import data
from harness.html.claims import claims
from harness.html.markup import join, tag, text
from harness.html.papers import papers
from harness.html.sections import SECTIONS, Content
from harness.measured import Measured
from harness.palette import METHODS, OTHERS, REFERENCES, lighter
from harness.tables import Table

HERE = Path(__file__).parent


def page(measured: Measured, tables: Sequence[Table], drawings: Mapping[str, bytes]) -> str:
    """The whole document; `drawings` maps "figures/NAME.svg" (and others) to content.

    The same arguments give the same bytes: no time, no random identifiers.
    """
    study = measured.study
    content = Content(measured, tuple(tables), drawings)
    first, drawn, tabled, failed, last = SECTIONS
    # overview first, then the papers' tables of a study that has some
    makers = (first, papers, drawn, tabled, claims, failed, data, last)
    sections = [section for make in makers if (section := make(content))]
    links = join(tag("li", tag("a", text(s.title), href=f"#{s.id}")) for s in sections)
    body = join([
        tag("a", text("Skip to the content"), cls="skip", href="#content"),
        tag("header", join([
            tag("p", text(f"{study.grid} \u00b7 scale {study.scale}"), cls="eyebrow"),
            tag("h1", text(study.title)), tag("p", text(study.caption), cls="lead"),
        ])),
        tag("nav", tag("ul", links), aria_label="Sections"),
        tag("main", join(_section(s.id, s.title, s.body) for s in sections), id="content"),
        tag("footer", tag("p", text("Made from records alone by ") + tag("code", text(
            f"python -m harness.report {study.named}")))),
        _dialog(),
    ])
    return _document(study.title, body, content.data())


def _section(name: str, title: str, body: str) -> str:
    heading = tag("h2", text(title), id=f"{name}-title")
    return tag("section", heading + body, id=name, aria_labelledby=f"{name}-title")


def _dialog() -> str:
    close = tag("button", text("Close"), type="button", id="runs-close")
    head = tag("div", tag("h2", text("Runs"), id="runs-title") + close, cls="dialog-head")
    return tag("dialog", head + tag("div", "", id="runs-body"), id="runs",
               aria_labelledby="runs-title")


def _document(title: str, body: str, data: str) -> str:
    style = (HERE / "page.css").read_text(encoding="utf-8") + _colors()
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
              "img-src data:; base-uri 'none'; form-action 'none'")
    head = join([
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        tag("title", text(title)), f"<style>\n{style}</style>",
    ])
    block = f'<script type="application/json" id="data">{data}</script>'
    return (f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n'
            f"{block}\n<script>{script}</script>\n</body>\n</html>\n")


def _colors() -> str:
    """The figures' method colours as variables, lighter on a dark background."""
    colors = sorted({mark.color for mark in (*METHODS.values(), *OTHERS, *REFERENCES)})
    light = " ".join(f"--m-{c[1:]}: {c};" for c in colors)
    dark = " ".join(f"--m-{c[1:]}: {lighter(c)};" for c in colors)
    return (f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) "
            f"{{ :root {{ {dark} }} }}\n")
