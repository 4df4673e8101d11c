"""A published curve beside ours: a table whose rows differ in a number, such as epochs or k.

Of any other table, figures_dots draws the rows as they are.

Published points are open and joined by dashes, ours are filled with intervals. On the paper's own
scale they share an axis; a twin at another scale has one of its own, since neither its accuracies
nor its costs can be compared with the published ones. Where the number is epochs and the paper
counts them in images, the axis is images seen (DnC, figure 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import figures as f
from harness.measured import Measured
from harness.palette import INK, METHODS, MUTED, OTHERS, PAPER, Mark
from harness.paper_results import PaperResult, Result, paper_results
from harness.papers import PaperTable, tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EPOCHS = ("epochs", "epochs_full_imagenet")
# Figure 1's other points, which its file does not repeat: the rows of table 3 on JFT-300M.
FIGURE_1, ITS_POINTS = "dnc/figure1", ("dnc/table3", "imagenet_top1", "JFT-300M", "R-50")
HEAD, PANEL, FOOT, TICKS, LINE = 0.74, 2.3, 0.42, 0.5, 0.165  # inches
MOST_SERIES = 12
PAPERS = {"dnc": "DnC", "fnc": "FNC", "cld": "CLD"}


@dataclass(frozen=True)
class Point:
    """A row of the table: its place on both axes' scales; `result` has both numbers."""

    series: str
    x: float
    ours_x: float
    result: Result


@dataclass(frozen=True)
class Curves:
    """One figure: `log` and `label` are of the x axis, `column` the published quantity."""

    paper: PaperResult
    column: str
    label: str
    images: bool
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """The stem of its files."""
        return f"paper-{self.paper.table.id.replace('/', '-')}-{self.column}"

    @property
    def series(self) -> list[str]:
        """In order of appearance."""
        return list(dict.fromkeys(point.series for point in self.points))


def paper_curves(measured: Measured) -> Iterator[tuple[str, Figure]]:
    """Name and figure of every table of the study that has a number of ours: curves of the columns
    that follow a number, dots (figures_dots) of the others."""
    from harness.figures_dots import paper_dots

    results = paper_results(measured)
    for paper in results:
        others = []
        for column in (c.name for c in paper.table.columns if c.kind == "value"):
            found = curves(measured, paper, column, results)
            if found:
                yield found.name, draw(measured, found)
            else:
                others.append(column)
        yield from paper_dots(measured, paper, others)


def number_of(text: Any) -> float | None:
    """500 for 500, "500" and "~500"; None for what is no number."""
    match = re.fullmatch(r"~?(\d+(?:\.\d+)?)", str(text).replace(",", ""))
    return float(match.group(1)) if match else None


def axis_of(table: PaperTable) -> str | None:
    """The key column that is a number in every row and has more than one value; epochs first."""
    keys = [c.name for c in table.columns if c.kind == "key"]
    found = [name for name in keys if all(number_of(row.cells[name]) is not None
                                          for row in table.rows)
             and len({number_of(row.cells[name]) for row in table.rows}) > 1]
    return next((name for name in found if name in EPOCHS), found[0] if found else None)


def curves(measured: Measured, paper: PaperResult, column: str,
           others: Sequence[PaperResult]) -> Curves | None:
    """The points of a column; None without an axis, a series of two, or a number of ours."""
    table = paper.table
    axis = axis_of(table) if table.id != FIGURE_1 else "epochs"
    if axis is None:
        return None
    images = axis in EPOCHS and bool(table.epoch_images)
    cells: list[tuple[PaperTable, int, Result]] = [
        (table, row, result) for (row, name), result in paper.results.items() if name == column]
    if table.id == FIGURE_1:
        cells += _figure_1(others)
    seen = _images(measured)
    points = []
    for owner, row, result in cells:
        place = number_of(owner.rows[row].cells[axis])
        if place is None:
            continue
        x = place * (table.epoch_images or 1) if images else place
        own = [seen[key] for key in result.keys if key in seen]
        name = str(owner.rows[row].cells["method"]) if table.id == FIGURE_1 else _series(
            owner, row, axis)
        points.append(Point(name, x,
                            float(np.mean(own)) if images and own else x, result))
    names = [point.series for point in points]
    if not any(not p.result.ours.missing for p in points) or not any(
            names.count(name) > 1 for name in names) or len(set(names)) > MOST_SERIES:
        return None
    label = "images seen in pre-training" if images else axis.replace("_", " ")
    return Curves(paper, column, label, images, tuple(points))


def _figure_1(others: Sequence[PaperResult]) -> list[tuple[PaperTable, int, Result]]:
    """The rows of table 3 that figure 1 draws: with ours if the study has them."""
    name, column, data, arch = ITS_POINTS
    table = tables()[name]
    ours = next((paper for paper in others if paper.table.id == name), None)
    found = []
    for i, row in enumerate(table.rows):
        if (row.cells["pretrain"], row.cells["arch"]) != (data, arch):
            continue
        result = ours.results.get((i, column)) if ours else _published(table, i, column)
        if result is not None:
            found.append((table, i, result))
    return found


def _published(table: PaperTable, row: int, column: str) -> Result | None:
    from harness.statistics import mean_interval
    from harness.verdicts import judge

    key = table.key(table.rows[row])
    cell = next((c for c in table.cells if c.key == key and c.column == column), None)
    if cell is None:
        return None
    return Result(cell, {"reason": "not asked"}, mean_interval([float("nan")]),
                  judge(cell.value, [], missing=["not asked"]), {}, ())


def _series(table: PaperTable, row: int, axis: str) -> str:
    """The other key cells of a row that differ; a number with its name."""
    cells = table.rows[row].cells
    keys = [c.name for c in table.columns if c.kind == "key" and c.name != axis]
    texts = [str(cells[name]) if number_of(cells[name]) is None
             else f"{name.replace('_', ' ')} {cells[name]}" for name in keys
             if cells[name] is not None and len({str(r.cells[name]) for r in table.rows}) > 1]
    return ", ".join(texts) or table.metric.split(" of ")[0]


def _images(measured: Measured) -> dict[str, float]:
    frame = measured.records
    return dict(zip(frame["evaluate_key"].tolist(), frame["images_seen"].tolist(), strict=True))


def draw(measured: Measured, found: Curves) -> Figure:
    """One panel, or two where ours is a twin at another scale."""
    twin = measured.study.scale != "paper"
    marks = _marks(found.series)
    counts = sorted({p.result.ours.n for p in found.points if not p.result.ours.missing})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    differs = " Not comparable with the published ones: another scale, so two axes." if twin else ""
    caption = f.wrapped(
        f"Open marks, dashed: as published ({found.paper.table.metric}). Filled marks: ours, mean "
        f"over seeds ({n}) with {measured.study.level:.0%} t interval, none at n = 1; "
        f"{found.paper.note}.{differs}")
    foot = FOOT + f.caption_height(caption)
    figure = f.new_figure(HEAD + PANEL + foot)
    key = max(f.text_width(_short(name), 7) for name in (*found.series, "published")) + 0.36
    panels = 2 if twin else 1
    width = (f.WIDTH - 2 * f.MARGIN - key - TICKS * panels - 0.1) / panels
    for i in range(panels):
        axes = f.axes_at(figure, f.MARGIN + TICKS + i * (width + TICKS), foot, width, PANEL)
        _panel(axes, found, marks, published=not i, ours=i == panels - 1)
        if twin:
            axes.set_title(f"ours, scale {measured.study.scale}" if i else "published",
                           loc="left", pad=4, color=INK if i else MUTED)
        if not i:
            axes.set_ylabel(f"{found.column.replace('_', ' ')} ({_unit(found)})")
    _key(figure, found, marks, f.MARGIN + panels * (width + TICKS) + 0.14)
    put_title(figure, found.paper.table)
    f.put_caption(figure, caption)
    return figure


def _unit(found: Curves) -> str:
    return found.points[0].result.cell.unit


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "\u2026"


def _marks(series: Sequence[str]) -> dict[str, Mark]:
    """A method's own mark where a series is one, or else the next of the palette."""
    names = {"moco v2": "moco_v2"}
    chosen: dict[str, Mark] = {}
    spare = [mark for mark in (*METHODS.values(), *OTHERS)]
    for name in series:
        mark = METHODS.get(names.get(name.lower(), name.lower()))
        chosen[name] = mark if mark and mark not in chosen.values() else next(
            m for m in spare if m not in chosen.values())
    return chosen


def _panel(axes: Axes, found: Curves, marks: dict[str, Mark], published: bool,
           ours: bool) -> None:
    shown, xs = [], []
    if published:
        shown += [p.result.cell.value for p in found.points]
        xs += [p.x for p in found.points]
    mine = [p for p in found.points if ours and not p.result.ours.missing]
    for p in mine:
        shown += [v for v in (p.result.ours.low, p.result.ours.high, float(p.result.ours.mean))
                  if not np.isnan(v)]
    xs += [p.ours_x for p in mine]
    room = 0.08 * (max(shown) - min(shown)) or 1.0
    axes.set_ylim(min(shown) - room, max(shown) + room)
    if found.images:
        f.cost_axis(axes, min(xs), max(xs))
    else:
        _number_axis(axes, sorted(set(xs)))
    axes.set_xlabel(found.label)
    f.grid_lines(axes, "y")
    for name in found.series:
        line = sorted((p for p in found.points if p.series == name), key=lambda p: p.x)
        if published:
            axes.plot([p.x for p in line], [p.result.cell.value for p in line],
                      color=marks[name].color, linewidth=0.9, dashes=(4, 2), zorder=2,
                      marker=marks[name].marker, markersize=5, markeredgewidth=1.0,
                      markeredgecolor=marks[name].color, markerfacecolor=PAPER)
        own = sorted((p for p in mine if p.series == name), key=lambda p: p.ours_x)
        axes.plot([p.ours_x for p in own], [float(p.result.ours.mean) for p in own],
                  color=marks[name].color, linewidth=1.4, marker=marks[name].marker,
                  markersize=5.6, markeredgewidth=0, zorder=4)
        for p in own:
            axes.plot([p.ours_x] * 2, [p.result.ours.low, p.result.ours.high], linewidth=1.2,
                      color=marks[name].color, alpha=0.6, zorder=3)


def _number_axis(axes: Axes, xs: Sequence[float]) -> None:
    """Ticks at the published values; logarithmic above a factor of 8."""
    from matplotlib.ticker import NullLocator

    if xs[0] > 0 and xs[-1] / xs[0] > 8:
        axes.set_xscale("log")
        axes.set_xlim(xs[0] / (xs[-1] / xs[0]) ** 0.06, xs[-1] * (xs[-1] / xs[0]) ** 0.06)
    else:
        room = 0.08 * (xs[-1] - xs[0]) or 0.5
        axes.set_xlim(xs[0] - room, xs[-1] + room)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(xs), [f"{x:g}" for x in xs])


def _key(figure: Figure, found: Curves, marks: dict[str, Mark], left: float) -> None:
    from matplotlib.lines import Line2D

    height = figure.get_size_inches()[1]
    y = height - HEAD - 0.06

    def line(text: str, color: str, marker: str, filled: bool, ink: str, dashed: bool) -> None:
        nonlocal y
        figure.add_artist(Line2D(
            [left / f.WIDTH, (left + 0.2) / f.WIDTH], [y / height] * 2, color=color,
            linewidth=1.1, dashes=(4, 2) if dashed else (None, None), marker=marker,
            markersize=4.5, markevery=(0, 2), markeredgecolor=color,
            markerfacecolor=color if filled else PAPER))
        figure.text((left + 0.28) / f.WIDTH, y / height, text, fontsize=7, color=ink,
                    va="center_baseline")
        y -= LINE

    for name in found.series:
        line(_short(name), marks[name].color, marks[name].marker, True, INK, False)
    y -= 0.08
    line("published", MUTED, "o", False, MUTED, True)
    line("ours", MUTED, "o", True, MUTED, False)


def put_title(figure: Figure, table: PaperTable) -> None:
    """Paper and number of the table, and below it what it is about."""
    height = figure.get_size_inches()[1]
    paper = PAPERS.get(table.id.split("/")[0], table.id.split("/")[0])
    number = table.number.split(",")[0]
    figure.text(f.MARGIN / f.WIDTH, 1 - 0.10 / height, f"{paper}, {number}", fontsize=9,
                fontweight="bold", va="top")
    figure.text(f.MARGIN / f.WIDTH, 1 - 0.32 / height, table.caption, fontsize=f.NORMAL,
                color=MUTED, va="top")
