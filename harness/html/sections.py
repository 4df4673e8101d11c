"""The sections of the page, in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.html.made import packed
from harness.html.markup import (
    command,
    download,
    embed,
    inline_svg,
    join,
    scroll,
    table,
    tag,
    text,
)
from harness.measured import EVALUATION_LABELS, Failure, Measured, describe
from harness.statistics import p_text
from harness.table_formats import equals, latex, tidy_csv
from harness.tables import Cell, Table, capital, merged

# What the runs behind a cell show, with the words for it; one row per evaluation of one encoder.
RUN_FIELDS = {
    "method_label": "Method", "condition_label": "Condition", "seed": "Seed",
    "n_test": "Test images", "images_seen": "Images seen", "device_seconds": "Device seconds",
    "images_per_second": "Images per second", "threads": "Threads", "precision": "Precision",
    "hardware": "Hardware", "torch": "torch", "git_commit": "Git commit",
    "code": "Uncommitted code", "created": "Made", "data_fingerprint": "Data fingerprint",
    "protocol": "Protocol", "evaluate_key": "Evaluation key", "features_key": "Features key",
    "pretrain_key": "Pretraining key",
}


# 20,000 records are 13 MB of CSV; beyond that the page points to the file beside it.
MOST_RECORDS = 20_000


@dataclass(frozen=True)
class Section:
    """One section of the page; `body` is markup."""

    id: str
    title: str
    body: str


@dataclass(frozen=True)
class Content:
    """What the sections are made from."""

    measured: Measured
    tables: tuple[Table, ...]
    drawings: Mapping[str, bytes]

    @cached_property
    def _runs(self) -> tuple[list[int], list[int]]:
        """Record row -> run, and run -> its first record row.

        The metrics of one evaluation share everything but their value, so they share a run.
        """
        frame = self.measured.records
        runs = frame.groupby(["method", "condition", "seed", "evaluation"], sort=False).ngroup()
        _, first = np.unique(runs.to_numpy(), return_index=True)
        return runs.tolist(), first.tolist()

    def runs_of(self, cell: Cell) -> str:
        """"run:value run:value ..." for the button of a cell; shares in percent."""
        return self.runs_at(cell.rows, cell.estimate.scale)

    def runs_at(self, rows: Sequence[int], scale: float) -> str:
        """The same for places in the records; `scale` is what a value is printed times."""
        runs, values = self._runs[0], self._values
        return " ".join(f"{runs[row]}:{scale * values[row]:.2f}" for row in rows)

    @cached_property
    def _values(self) -> list[float]:
        return self.measured.records["value"].tolist()

    def data(self) -> str:
        """The runs as JSON: strings once, rows as places in them."""
        frame = self.measured.records.iloc[self._runs[1]]
        strings: dict[str, int] = {}
        columns = [[strings.setdefault(_plain(value), len(strings)) for value in frame[name]]
                   for name in RUN_FIELDS]
        made, elsewhere = packed(self.measured)
        return embed({"fields": list(RUN_FIELDS.values()), "strings": list(strings),
                      "columns": columns, "command": self.measured.study.command,
                      "made": made, "elsewhere": elsewhere})


def _plain(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return "--" if np.isnan(value) else f"{value:,.1f}".removesuffix(".0")
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return str(value) or "none"


def overview(content: Content) -> Section:
    """What the study is, what it is not, and how to make it again."""
    measured, study = content.measured, content.measured.study
    done = measured.records.groupby(["method", "condition", "seed", "evaluation"]).ngroups
    compared = [m.label for m in study.methods if not m.reference]
    facts = {
        "Data": text(study.data_label),
        "Methods": text(", ".join(compared) or "none"),
        "References": text(", ".join(m.label for m in study.methods if m.reference) or "none"),
        "Conditions": text(f"{study.axis_label} {', '.join(c.label for c in study.conditions)}"),
        "Seeds": text(", ".join(map(str, study.seeds))),
        "Evaluations": text(f"{done} of {len(study.cells) or done} done"
                            + (f", {len(study.failures)} failed" if study.failures else "")),
        "Intervals": text(f"{study.level:.0%} t intervals over seeds; every mean shows its n"),
        "Command": command(study.command),
    }
    listed = join(tag("div", tag("dt", text(k)) + tag("dd", v)) for k, v in facts.items())
    notes = [study.note] if study.note else []
    body = join(tag("p", text(note), cls="note") for note in (*notes, *measured.notes))
    return Section("overview", "Overview", body + tag("dl", listed, cls="facts"))


def figures(content: Content) -> Section | None:
    """Every figure as inline SVG; the first one open, the others folded."""
    drawn = [(name, data.decode()) for name, data in content.drawings.items()
             if name.endswith(".svg")]
    parts = []
    for i, (name, svg) in enumerate(drawn):
        title = _figure_title(content.tables, name)
        label = f"{title}. The numbers are in the tables of this page."
        picture = scroll(tag("figure", inline_svg(svg, label, f"f{i}-")), title)
        parts.append(picture if i == 0 else _folded(title, picture))
    return Section("figures", "Figures", join(parts)) if parts else None


# What the figures beside the main one show, by the first word of their name.
KINDS = {"compute": "accuracy against compute", "classes": "accuracy by class",
         "clusters": "clusters of the features", "paper": "published and ours",
         "ranks": "average ranks"}


def _figure_title(tables: Sequence[Table], name: str) -> str:
    """"Figure: Linear balanced accuracy, by class" from "figures/classes-linear-balanced.svg"."""
    stem = name.rpartition("/")[2].removesuffix(".svg")
    kind, _, rest = stem.partition("-")
    title = next((t.title for t in tables if t.name == rest), "")
    what = KINDS.get(kind, "")
    if not title:
        title = rest.replace("-", " ").replace("_", " ")
    return f"Figure: {title}{', ' + what if what else ''}"


def _folded(title: str, inner: str) -> str:
    return tag("details", tag("summary", text(title)) + inner)


def results(content: Content) -> Section | None:
    """The headline tables open, the others folded by evaluation and metric."""
    if not content.tables:
        return None
    headline = content.measured.study.headline
    parts = [tag("p", text("Choose a cell to see the runs behind it."), cls="hint")]
    others: dict[str, list[str]] = {}
    for t in content.tables:
        if (t.evaluation, t.metric) == headline:
            parts.append(tag("h3", text(t.title)) + cells(content, t, caption="quiet"))
        else:
            others.setdefault(describe(t.evaluation, t.metric), []).append(cells(content, t))
    parts += [_folded(capital(title), join(inner)) for title, inner in others.items()]
    return Section("results", "Results", join(parts))


def cells(content: Content, t: Table, caption: str = "") -> str:
    """A table whose entries are buttons that open their runs; `caption` is the caption's class."""
    head = tag("tr", tag("td" if not t.corner else "th", text(t.corner), scope=t.corner and "col"
                         or None) + join(tag("th", text(c.label), scope="col")
                                         for c in t.columns))
    groups = []
    for group, cls in ((t.methods, ""), (t.references, "reference")):
        lines = [tag("tr", tag("th", text(row.label), scope="row") + join(
            _entry(content, t, row.label, column.label, t.cell(row, column))
            for column in t.columns)) for row in group]
        if lines:
            groups.append(tag("tbody", join(lines), cls=cls))
    inner = tag("caption", text(t.title), cls=caption) + tag("thead", head) + join(groups)
    notes = join(tag("li", tag("sup", text(note.mark)) + text(f" {note.text} Run again: ")
                     + command(note.rerun)) for note in t.footnotes)
    return (scroll(tag("table", inner, cls="cells"), f"Table: {t.title}")
            + tag("p", text(t.legend), cls="legend")
            + (tag("ul", notes, cls="footnotes") if notes else ""))


def _entry(content: Content, t: Table, row: str, column: str, cell: Cell) -> str:
    marks = tag("sup", text(",".join(cell.marks))) if cell.marks else ""
    if cell.estimate.missing:
        return tag("td", tag("span", text("--") + tag("span", text(" missing"), cls="quiet"),
                             cls="missing") + marks)
    label = f"{row}, {column}"
    button = tag("button", _estimate(t, cell), type="button", cls="cell", aria_haspopup="dialog",
                 data_runs=content.runs_of(cell), data_title=f"{label}: {t.title}",
                 data_estimate=cell.estimate.text(signed=t.kind == "difference"))
    return tag("td", button + marks, cls="best" if cell.best else "")


def _estimate(t: Table, cell: Cell) -> str:
    """Mean, interval and n as markup; the n is as much a part of the number as its digits."""
    written = cell.estimate.text(signed=t.kind == "difference").replace("-", "\u2212")
    mean, rest = re.fullmatch(r"(\S+)(.*)", written, re.DOTALL).groups()  # type: ignore[union-attr]
    if t.kind == "difference" and not np.isnan(cell.p):
        rest += f", p{equals(p_text(cell.p))}"
    best = tag("span", text(" (significantly best)"), cls="quiet") if cell.best else ""
    return tag("span", text(mean), cls="mean") + tag("span", text(rest), cls="rest") + best


def failures(content: Content) -> Section | None:
    """What did not finish, why, and the command for just that."""
    study = content.measured.study
    if not study.failures:
        return None
    methods = {m.id: m.label for m in study.methods}
    conditions = {c.id: c.label for c in study.conditions}
    groups: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in study.failures:
        groups.setdefault((failure.method, failure.condition, failure.cause), []).append(failure)
    rows = []
    for (method, condition, cause), found in groups.items():
        rows.append([text(methods.get(method, method)),
                     text(conditions.get(condition, condition)), text(_which(found)),
                     text(cause), command(merged(list(dict.fromkeys(f.rerun for f in found))))])
    head = map(text, ("Method", "Condition", "Seeds", "Cause", "Run again"))
    return Section("failures", "Failures", table(head, rows, "Cells without a number"))


def _which(found: Sequence[Failure]) -> str:
    """"0, 1 (linear, kNN)", or every pair when not all evaluations of a seed failed."""
    seeds = dict.fromkeys(str(f.seed) for f in found)
    names = dict.fromkeys(EVALUATION_LABELS.get(f.evaluation, f.evaluation) for f in found)
    if len(found) == len(seeds) * len(names):
        return f"{', '.join(seeds)} ({', '.join(names)})"
    return ", ".join(f"{f.seed} ({EVALUATION_LABELS.get(f.evaluation, f.evaluation)})"
                     for f in found)


def downloads(content: Content) -> Section:
    """Records and tables, carried inside the page."""
    rows = [[text("All records"), _records(content.measured), ""]]
    for t in content.tables:
        rows.append([text(t.title), download("CSV", f"{t.name}.csv", tidy_csv(t), "text/csv"),
                     download("LaTeX", f"{t.name}.tex", latex(t))])
    listed = table(map(text, ("What", "Data", "Typeset")), _named(rows),
                   "Files inside this page")
    return Section("downloads", "Downloads", listed)


def _records(measured: Measured) -> str:
    if len(measured.records) > MOST_RECORDS:
        return tag("a", text("records.parquet"), href="records.parquet")
    content = measured.records.to_csv(index=False, lineterminator="\n")
    return download("CSV", "records.csv", content, "text/csv")


def _named(rows: list[list[str]]) -> list[list[str]]:
    """Links that say what they lead to when read out of context."""
    return [[row[0], *(link.replace("<a ", f'<a aria-label="{row[0]}, {kind}" ', 1)
                       for link, kind in zip(row[1:], ("CSV", "LaTeX"), strict=True))]
            for row in rows]


SECTIONS: tuple[Callable[[Content], Section | None], ...] = (
    overview, figures, results, failures, downloads,
)
