"""A table as terminal output, Markdown, LaTeX and CSV; everything that users name is escaped."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.statistics import p_text
from harness.tables import Cell, Table

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table as RichTable

CSV_COLUMNS = (
    "method", "condition", "mean", "low", "high", "n", "sd", "seeds", "keys", "evaluation",
    "metric", "kind", "level", "p_holm", "best", "reference", "status",
)


def cell_text(table: Table, cell: Cell) -> str:
    """"67.5 ± 0.8 (n=3)", and in a table of differences "+5.2 ± 1.1 (n=3), p=0.012"."""
    if table.kind == "accuracy" or cell.estimate.missing:
        return cell.estimate.text()
    p = p_text(cell.p)
    return cell.estimate.text(signed=True) + ("" if np.isnan(cell.p) else f", p{equals(p)}")


def equals(p: str) -> str:
    """"<0.001" as it is, "0.012" as "=0.012"."""
    return p if p.startswith("<") else f"={p}"


def one_line(text: str) -> str:
    """White space, line ends included, as single blanks."""
    return " ".join(text.split())


# -- terminal ----------------------------------------------------------------------------------


def terminal(table: Table, width: int = 100, repeat: bool = True) -> Group:
    """A rich renderable: title, the table with reference rows below a rule, footnotes.

    What does not fit into `width` columns is stacked, then split, never cut: a mean keeps its n.
    `repeat=False` leaves out footnotes that the table above has just shown.
    """
    from rich.console import Group
    from rich.text import Text

    texts = {at: cell_text(table, cell) + _tag(cell) for at, cell in table.cells.items()}
    label = max(len(one_line(x)) for x in (table.corner, *(row.label for row in table.rows)))
    columns = [max([len(one_line(column.label)), *(len(texts[row.id, column.id])
                                                   for row in table.rows)])
               for column in table.columns]
    if label + 4 + sum(size + 3 for size in columns) > width:
        texts = {at: text.replace(" (n=", "\n(n=") for at, text in texts.items()}
        columns = [max([len(one_line(column.label)), *(len(line) for row in table.rows
                        for line in texts[row.id, column.id].split("\n"))])
                   for column in table.columns]
    parts: list[RenderableType] = [
        _grid(table, block, texts) for block in _blocks(columns, width - label - 4)
    ]
    parts.append(Text(table.legend, style="dim"))
    for note in table.footnotes if repeat else ():
        parts.append(Text(f"[{note.mark}] {one_line(note.text)} Run again:", style="yellow"))
        # on a line of its own and never broken: it is there to be copied
        parts.append(Text(f"    {one_line(note.rerun)}", no_wrap=True, overflow="ignore"))
    return Group(Text(table.title, style="bold"), *parts)


def _blocks(columns: Sequence[int], width: int) -> list[range]:
    """Split columns of the given sizes into runs that fit into `width`, at least one each."""
    blocks, start, used = [], 0, 0
    for i, size in enumerate(columns):
        if i > start and used + size + 3 > width:  # two blanks and a separator each
            blocks.append(range(start, i))
            start, used = i, 0
        used += size + 3
    return [*blocks, range(start, len(columns))]


def _grid(table: Table, block: range, texts: Mapping[tuple[str, str], str]) -> RichTable:
    from rich.box import HORIZONTALS
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=HORIZONTALS)
    grid.add_column(Text(one_line(table.corner)), no_wrap=True)
    for i in block:
        grid.add_column(Text(one_line(table.columns[i].label)), justify="right", no_wrap=True)
    for group in (table.methods, table.references):
        for row in group:
            ids = [(row.id, table.columns[i].id) for i in block]
            entries = [Text(texts[at], style="bold" if table.cells[at].best else "") for at in ids]
            grid.add_row(Text(one_line(row.label)), *entries, style="dim" if row.reference else "")
        grid.add_section()
    return grid


def _tag(cell: Cell) -> str:
    return f" [{','.join(cell.marks)}]" if cell.marks else ""


# -- Markdown ----------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    """GitHub Markdown; Markdown has no rule inside a table, so a row named *Reference* is one."""
    width = len(table.columns)
    lines = [f"**{escape_markdown(table.title)}**", ""]
    lines.append(_bar([escape_markdown(text) for text in _header(table)]))
    lines.append(_bar([":--", *["--:"] * width]))
    lines += [_bar(_markdown_row(table, i)) for i in range(len(table.methods))]
    if table.references:
        lines.append(_bar(["*Reference*", *[""] * width]))
        start = len(table.methods)
        lines += [_bar(_markdown_row(table, start + i)) for i in range(len(table.references))]
    lines += ["", escape_markdown(table.legend)]
    for note in table.footnotes:
        lines += ["", f"<sup>{note.mark}</sup> {escape_markdown(note.text)} "
                      f"Run again: {code_span(note.rerun)}"]
    lines += ["", f"Made by {code_span(table.command)}."]
    return "\n".join(lines) + "\n"


def _markdown_row(table: Table, index: int) -> list[str]:
    row = (*table.methods, *table.references)[index]
    texts = [escape_markdown(row.label)]
    for column in table.columns:
        cell = table.cell(row, column)
        text = cell_text(table, cell)
        text = f"**{text}**" if cell.best else text
        texts.append(text + (f" <sup>{','.join(cell.marks)}</sup>" if cell.marks else ""))
    return texts


def _header(table: Table) -> list[str]:
    return [table.corner, *(column.label for column in table.columns)]


def _bar(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def code_span(text: str) -> str:
    """A Markdown code span; doubled fences keep backticks in the text harmless."""
    text = one_line(text)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def escape_markdown(text: str) -> str:
    """Text that Markdown and the HTML inside it show as it is."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)


# -- LaTeX -------------------------------------------------------------------------------------

TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "–": "--", "—": "---", "µ": r"$\mu$",
    "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
}


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it is, in pdflatex with T1 and textcomp as well as in lualatex."""
    return "".join(_tex(char) for char in one_line(text))


def _tex(char: str) -> str:
    if char in TEX:
        return TEX[char]
    if ord(char) < 0x180:  # T1 has the accented letters of Latin-1 and Latin Extended-A
        return char if char.isprintable() and (ord(char) < 0x7F or char.isalpha()) else "?"
    words = unicodedata.name(char, "").split()
    if words[:3] == ["GREEK", "SMALL", "LETTER"] and len(words) == 4:
        name = words[3].lower().replace("lamda", "lambda")
        return "o" if name == "omicron" else rf"$\{name}$" if name != "final" else "?"
    return rf"\texttt{{U+{ord(char):04X}}}"


def latex(table: Table) -> str:
    """A booktabs table to \\input; the records behind every cell stand in comments on top."""
    wide = len(table.columns) > 3
    lines = [*_provenance(table), r"\begin{table}[t]", r"\centering\small"]
    lines.append(rf"\caption{{{escape_latex(table.title)}. {escape_latex(table.legend)}}}")
    lines.append(rf"\label{{tab:{re.sub('[^A-Za-z0-9-]', '-', table.name)}}}")
    if wide:
        lines.append(r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%")
    lines += [rf"\begin{{tabular}}{{@{{}}l{'r' * len(table.columns)}@{{}}}}", r"\toprule"]
    lines.append(_tex_row([escape_latex(text) for text in _header(table)]))
    lines.append(r"\midrule")
    lines += [_latex_row(table, i) for i in range(len(table.methods))]
    if table.references and table.methods:
        lines.append(r"\midrule")
    start = len(table.methods)
    lines += [_latex_row(table, start + i) for i in range(len(table.references))]
    lines += [r"\bottomrule", r"\end{tabular}" + ("}" if wide else "")]
    for note in table.footnotes:
        lines.append(rf"\par\smallskip\footnotesize\raggedright $^{{\mathrm{{{note.mark}}}}}$ "
                     rf"{escape_latex(note.text)} Run again: \texttt{{{escape_latex(note.rerun)}}}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _provenance(table: Table) -> list[str]:
    packages = r"\usepackage[T1]{fontenc} \usepackage{booktabs,graphicx,textcomp}"
    lines = [f"% needs {packages}", f"% made by: {_comment(table.command)}",
             "% records (evaluation keys) of every cell:"]
    for (method, column), cell in table.cells.items():
        seeds = " ".join(map(str, cell.seeds)) or "none"
        lines.append(f"% {_comment(method)} / {_comment(column)}: seeds {seeds}: "
                     f"{' '.join(map(_comment, cell.keys)) or 'no record'}")
    return lines


def _comment(text: str) -> str:
    return one_line(text)


def _latex_row(table: Table, index: int) -> str:
    row = (*table.methods, *table.references)[index]
    texts = [escape_latex(row.label)]
    for column in table.columns:
        cell = table.cell(row, column)
        text = re.sub(r"^-(?=\d)", "$-$", escape_latex(cell_text(table, cell)))
        text = rf"\textbf{{{text}}}" if cell.best else text
        if cell.marks:
            text += rf"$^{{\mathrm{{{','.join(cell.marks)}}}}}$"
        texts.append(text)
    return _tex_row(texts)


def _tex_row(texts: Sequence[str]) -> str:
    return " & ".join(texts) + r" \\"


# -- CSV ---------------------------------------------------------------------------------------


def tidy_csv(table: Table) -> str:
    """One line per cell, fractions at full precision; `status` says why a cell is not complete."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    notes = {note.mark: f"{note.text} Run again: {note.rerun}" for note in table.footnotes}
    for row in (*table.methods, *table.references):
        for column in table.columns:
            cell = table.cell(row, column)
            e = cell.estimate
            numbers = [_exact(x) for x in (e.mean, e.low, e.high)]
            writer.writerow([
                row.id, _column_id(table, column.id), *numbers, e.n, _exact(e.sd),
                " ".join(map(str, cell.seeds)), " ".join(cell.keys), table.evaluation,
                table.metric, e.kind, e.level, _exact(cell.p), cell.best, row.reference,
                one_line(" / ".join(notes[m] for m in cell.marks)) or "complete",
            ])
    return out.getvalue()


def _column_id(table: Table, column: str) -> str:
    return column if table.kind == "accuracy" else f"{table.base}-{column}"


def _exact(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))


WRITERS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "markdown": (".md", markdown), "latex": (".tex", latex), "csv": (".csv", tidy_csv),
}
