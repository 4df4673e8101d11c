"""A paper's table as the paper lays it out, with ours beside: terminal, Markdown, LaTeX and CSV.

Every published number comes with ours, the difference and the verdict: side by side in a table of
one or two columns of numbers, one below the other in a wider one. Reasons are footnotes.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .paper_results import PaperResult, Result
from .papers import Row, label
from .statistics import MISSING, number
from .table_formats import code_span, escape_latex, escape_markdown, one_line
from .tables import mark
from .verdicts import NOT_COMPARABLE, VERDICTS, Direction

if TYPE_CHECKING:
    from rich.console import Group

PARTS = ("published", "ours", "delta", "verdict")
SIDE_BY_SIDE = 2  # columns of numbers that still fit with all four parts beside each other
MOST_DIRECTIONS = 24
LEGEND = "Published: ~ approximate, * quoted by the authors, ? of unstated origin."
CSV_COLUMNS = (
    "table", "row", "column", "published", "unit", "approximate", "measured_by", "source", "ours",
    "low", "high", "n", "seeds", "delta", "verdict", "why", "scale", "method", "condition",
    "evaluation", "metric", "keys", "note",
)


@dataclass(frozen=True)
class Sheet:
    """A table as texts: `body` holds groups of lines, one group for each row of the paper.

    `left` columns are texts, the others numbers. `notes` are (mark, reason), `directions` how
    differences between rows compare.
    """

    name: str
    title: str
    caption: str
    header: tuple[str, ...]
    left: int
    body: tuple[tuple[tuple[str, ...], ...], ...]
    notes: tuple[tuple[str, str], ...]
    directions: tuple[str, ...]
    command: str
    provenance: tuple[str, ...]


class _Marks:
    """Footnote marks by reason, in order of appearance."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def of(self, why: Sequence[str]) -> str:
        text = "; ".join(" ".join(reason.split()) for reason in why)
        return self.reasons.setdefault(text, mark(len(self.reasons))) if text else ""


def file_name(table: str) -> str:
    """The stem of the files of a table."""
    return f"paper-{table.replace('/', '-')}"


def sheet(result: PaperResult) -> Sheet:
    """The table laid out, side by side or stacked."""
    table, marks = result.table, _Marks()
    keys = [c.name for c in table.columns if c.kind == "key"]
    values = [c.name for c in table.columns if c.kind == "value"]
    if len(values) <= SIDE_BY_SIDE:
        header = [*keys, *(f"{name} {part}" if len(values) > 1 or part == PARTS[0] else part
                           for name in values for part in PARTS)]
        body = [[_side_by_side(result, i, row, keys, values, marks)]
                for i, row in enumerate(table.rows)]
        left = len(keys)
    else:
        header, left = [*keys, "", *values], len(keys) + 1
        body = [_stacked(result, i, row, keys, values, marks) for i, row in enumerate(table.rows)]
    twin = "" if result.scale == "paper" else f" (twin at {result.scale} scale)"
    return Sheet(
        file_name(table.id), f"{table.paper['title'].split(':')[0]}, {table.number}{twin}",
        f"{table.caption}. {table.metric} ({table.unit}). Ours: {result.note}. {LEGEND}",
        tuple(header),
        left, tuple(tuple(map(tuple, group)) for group in body),
        tuple((m, text) for text, m in marks.reasons.items()), tuple(_directions(result)),
        result.command, tuple(_provenance(result)))


def _key_texts(row: Row, keys: Iterable[str]) -> list[str]:
    return ["-" if row.cells[key] is None else str(row.cells[key]) for key in keys]


def _side_by_side(result: PaperResult, position: int, row: Row, keys: Sequence[str],
                  values: Sequence[str], marks: _Marks) -> list[str]:
    cells = [parts(result.results.get((position, name)), row, marks) for name in values]
    return [*_key_texts(row, keys), *(text for cell in cells for text in cell)]


def _stacked(result: PaperResult, position: int, row: Row, keys: Sequence[str],
             values: Sequence[str], marks: _Marks) -> list[list[str]]:
    """Published, ours, delta and verdict as lines; without ours only the first and the last."""
    cells = [parts(result.results.get((position, name)), row, marks) for name in values]
    lines = [[part, *(cell[i] for cell in cells)] for i, part in enumerate(PARTS)]
    if all(cell[1] in ("", MISSING) for cell in cells):
        lines = [lines[0], lines[3]]
    texts = _key_texts(row, keys)
    return [[*(texts if not i else [""] * len(texts)), *line] for i, line in enumerate(lines)]


def parts(result: Result | None, row: Row, marks: _Marks) -> tuple[str, str, str, str]:
    """Published, ours, delta and verdict as texts; empty where the paper has no number."""
    if result is None:
        return ("", "", "", "")
    cell, digits = result.cell, _digits(result.cell.value)
    published = ("~" if cell.approximate else "") + number(cell.value, digits)
    published += {"quoted": "*", "unstated": "?"}.get(row.measured_by, "")
    tag = marks.of(result.verdict.why)
    verdict = f"{result.verdict.name} [{tag}]" if tag else result.verdict.name
    if math.isnan(result.verdict.delta):
        return published, MISSING, "", verdict
    return (published, result.ours.text(digits, scale=1.0),
            number(result.verdict.delta, digits, signed=True), verdict)


def _digits(value: float) -> int:
    return max(1, len(f"{value:g}".partition(".")[2]))


def _directions(result: PaperResult) -> list[str]:
    """The signs of differences between rows, ours beside the published ones."""
    agree, settled, total = result.agreement
    if not total:
        return []
    lines = [f"Differences between rows: {agree} of {settled} settled signs are as published "
             f"({total} differences in all)."]
    found = [(column, d) for column, each in result.directions.items() for d in each]
    for column, d in found if len(found) <= MOST_DIRECTIONS else ():
        lines.append(direction_text(column, d))
    return lines


def direction_text(column: str, found: Direction) -> str:
    """"top1: DnC minus MoCLR: published +2.1, here +0.8 ± 0.5 (n=3): as published"."""
    said = {True: "as published", False: "the other way", None: "open"}[found.agrees]
    said = "not run" if found.ours.missing else said
    ours = "" if found.ours.missing else f", here {found.ours.text(2, 1.0, signed=True)}"
    return (f"{column}: {found.row} minus {found.base}: published {found.published:+.4g}{ours}: "
            f"{said}")


def _provenance(result: PaperResult) -> list[str]:
    lines = []
    for (position, column), found in result.results.items():
        if found.keys:
            name = label(result.table, result.table.rows[position])
            seeds = " ".join(map(str, found.values))
            lines.append(f"{name} / {column}: seeds {seeds}: {' '.join(found.keys)}")
    return lines


# -- formats -----------------------------------------------------------------------------------


def terminal(result: PaperResult, width: int = 100) -> Group:
    """A rich renderable; a wide table is split into blocks of columns, never cut."""
    from rich.box import HORIZONTALS
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    page = sheet(result)
    header = [text.replace(" ", "\n", 1) for text in page.header]
    lines = [line for group in page.body for line in group]
    wide = [max(len(x) for x in (*text.split("\n"), *(line[i] for line in lines)))
            for i, text in enumerate(header)]
    tables = []
    for block in _blocks([size + 3 for size in wide], page.left, width):
        grid = Table(box=HORIZONTALS)
        for i in block:
            # what is wider than the terminal runs over its edge; nothing is cut
            grid.add_column(Text(header[i]), justify="left" if i < page.left else "right",
                            no_wrap=True, min_width=wide[i])
        for group in page.body:
            for line in group:
                grid.add_row(*(Text(line[i]) for i in block))
            if len(group) > 1:
                grid.add_section()
        tables.append(grid)
    said = [Text(f"[{m}] {text}", style="dim") for m, text in page.notes]
    signs = [Text(line) for line in page.directions]
    return Group(Text(page.title, style="bold"), Text(page.caption, style="dim"), *tables, *said,
                 *signs)


def _blocks(sizes: Sequence[int], left: int, width: int) -> list[list[int]]:
    """Columns in blocks that fit, each with the `left` ones that name the row."""
    names, room = list(range(left)), width - sum(sizes[:left]) - 1
    blocks: list[list[int]] = [[]]
    for i in range(left, len(sizes)):
        if blocks[-1] and sum(sizes[j] for j in blocks[-1]) + sizes[i] > room:
            blocks.append([])
        blocks[-1].append(i)
    return [names + block for block in blocks]


def markdown(result: PaperResult) -> str:
    """GitHub Markdown."""
    page = sheet(result)
    lines = [f"**{escape_markdown(page.title)}**", "", escape_markdown(page.caption), "",
             _bar(escape_markdown(text) for text in page.header),
             _bar(":--" if i < page.left else "--:" for i in range(len(page.header)))]
    lines += [_bar(escape_markdown(text) or " " for text in line)
              for group in page.body for line in group]
    lines += [text for m, why in page.notes for text in ("", f"\\[{m}\\] {escape_markdown(why)}")]
    lines += [text for said in page.directions for text in ("", escape_markdown(said))]
    return "\n".join([*lines, "", f"Made by {code_span(page.command)}."]) + "\n"


def _bar(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def latex(result: PaperResult) -> str:
    """A booktabs table to \\input; the records behind every cell stand in comments on top."""
    page = sheet(result)
    kinds = "".join("l" if i < page.left else "r" for i in range(len(page.header)))
    lines = [r"% needs \usepackage[T1]{fontenc} \usepackage{booktabs,graphicx,textcomp}",
             f"% made by: {one_line(page.command)}", "% records (evaluation keys) of every cell:",
             *(f"% {one_line(line)}" for line in page.provenance),
             r"\begin{table}[t]", r"\centering\small",
             rf"\caption{{{escape_latex(page.title)}. {escape_latex(page.caption)}}}",
             rf"\label{{tab:{re.sub('[^A-Za-z0-9-]', '-', page.name)}}}",
             r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
             rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}", r"\toprule", _tex_row(page.header),
             r"\midrule"]
    for i, group in enumerate(page.body):
        lines += [r"\addlinespace"] if i and len(group) > 1 else []
        lines += [_tex_row(line) for line in group]
    lines += [r"\bottomrule", r"\end{tabular}}"]
    for m, why in page.notes:
        lines.append(rf"\par\smallskip\footnotesize\raggedright [{m}] {escape_latex(why)}")
    for said in page.directions:
        lines.append(rf"\par\smallskip\footnotesize\raggedright {escape_latex(said)}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _tex_row(texts: Iterable[str]) -> str:
    """A row; braces keep a text that begins with a bracket from being read as \\\\'s argument."""
    shown = (re.sub(r"^-(?=\d)", "$-$", escape_latex(text)) for text in texts)
    return "{}" + " & ".join(shown) + r" \\"


def tidy_csv(result: PaperResult) -> str:
    """One line per published cell, in its published unit and at full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for (position, column), found in result.results.items():
        cell, told, verdict, ours = found.cell, found.told, found.verdict, found.ours
        writer.writerow([
            result.table.id, label(result.table, result.table.rows[position]), column, cell.value,
            cell.unit, cell.approximate, cell.measured_by, cell.source,
            *map(_exact, (float(ours.mean), ours.low, ours.high)), ours.n,
            " ".join(map(str, found.values)), _exact(verdict.delta), verdict.name,
            one_line("; ".join(verdict.why)), result.scale,
            *(told.get(k, "") for k in ("method", "condition", "evaluation", "metric")),
            " ".join(found.keys), one_line(cell.note)])
    return out.getvalue()


def _exact(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def summary(results: Sequence[PaperResult]) -> str:
    """How many cells there are of each verdict, over all tables."""
    names = [found.verdict.name for result in results for found in result.results.values()]
    counts = {name: names.count(name) for name in VERDICTS if name in names}
    told = ", ".join(f"{number} {name}" for name, number in counts.items())
    agree, settled, _ = (sum(x) for x in zip(*(r.agreement for r in results), strict=True))
    signs = f"; {agree} of {settled} settled differences between rows have the published sign" \
        if settled and NOT_COMPARABLE in counts else ""
    return f"{len(names)} published cells: {told}{signs}"


WRITERS: dict[str, tuple[str, Callable[[PaperResult], str]]] = {
    "markdown": (".md", markdown), "latex": (".tex", latex), "csv": (".csv", tidy_csv),
}
