"""A published table whose rows do not follow a number, as dots: published hollow, ours filled.

A row of the table is a row of the figure, a column a panel. At another scale than the paper's ours
has a panel of its own, marked as a twin: neither axis says anything about the other's numbers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness import figures as f
from harness.figures_papers import number_of, put_title
from harness.measured import Measured
from harness.palette import INK, METHODS, MUTED, PAPER, Mark
from harness.paper_results import PaperResult, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAD, TITLE, TICKS, BETWEEN = 0.56, 0.2, 0.46, 0.24  # inches
LINE, ROW = 0.12, 0.08  # a line of a label, and what is around it
NARROWEST, MOST_LABEL = 1.2, 2.3  # a panel, and the column of labels
LETTERS = 34
PLAIN = Mark(INK, "o")
PER_ROW = "per row"  # a column whose rows are of different units: only those that ours has


@dataclass(frozen=True)
class Dots:
    """Rows (position in the table, label) by panels (column, "published", "ours" or "both")."""

    paper: PaperResult
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    panels: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The stem of its files."""
        return f"paper-{self.paper.table.id.replace('/', '-')}"

    def at(self, row: int, column: str) -> Result | None:
        """The cell of a row, where the table has one that can be drawn."""
        found = self.paper.results.get((row, column))
        unit = next(c.unit for c in self.paper.table.columns if c.name == column)
        return None if found and unit == PER_ROW and found.ours.missing else found


def paper_dots(measured: Measured, paper: PaperResult,
               columns: Sequence[str]) -> Iterator[tuple[str, Figure]]:
    """Name and figure of those columns that have a number of ours; nothing where none has."""
    shown = [name for name in columns if any(
        column == name and not result.ours.missing
        for (_, column), result in paper.results.items())]
    if not shown:
        return
    twin = measured.study.scale != "paper"
    panels = tuple((name, part) for name in shown
                   for part in (("published", "ours") if twin else ("both",)))
    bare = Dots(paper, (), panels)
    rows = tuple((i, _label(paper, i)) for i in range(len(paper.table.rows))
                 if any(bare.at(i, name) for name in shown))
    found = Dots(paper, rows, panels)
    yield found.name, draw(measured, found)


def _label(paper: PaperResult, row: int) -> tuple[str, ...]:
    """The key cells of a row that differ between rows, a number or a yes with its name."""
    table = paper.table
    cells = table.rows[row].cells
    texts = []
    for name in (c.name for c in table.columns if c.kind == "key"):
        value = cells[name]
        if value is None or len({str(r.cells[name]) for r in table.rows}) == 1:
            continue
        words = name.replace("_", " ")
        if isinstance(value, bool):
            texts.append(words if value else f"no {words}")
        else:
            texts.append(str(value) if number_of(value) is None else f"{words} {value}")
    label = ", ".join(texts) or f"row {row + 1}"
    return tuple(textwrap.wrap(label, LETTERS, max_lines=2, placeholder=" \u2026"))


def draw(measured: Measured, found: Dots) -> Figure:
    """Panels beside each other, as many as fit, the others below."""
    label = max(f.text_width(line, f.SMALL) for _, lines in found.rows for line in lines)
    left = f.MARGIN + min(label, MOST_LABEL) + 0.12
    across = int((f.WIDTH - left - f.MARGIN + BETWEEN) // (NARROWEST + BETWEEN))
    if found.panels[0][1] != "both":
        across -= across % 2  # published and ours of a column stay side by side
    across = min(across, len(found.panels))
    lines = -(-len(found.panels) // across)
    heights = [len(text) * LINE + ROW for _, text in found.rows]
    tall = sum(heights)
    caption = f.wrapped(_caption(measured, found))
    below = f.caption_height(caption) + 0.04
    height = HEAD + lines * (TITLE + tall + TICKS) + below
    figure = f.new_figure(height)
    width = (f.WIDTH - left - f.MARGIN - BETWEEN * (across - 1)) / across
    for i, (column, part) in enumerate(found.panels):
        line, place = divmod(i, across)
        bottom = height - HEAD - (line + 1) * (TITLE + tall) - line * TICKS
        axes = f.axes_at(figure, left + place * (width + BETWEEN), bottom, width, tall)
        _panel(axes, found, column, part, heights, names=not place)
        title = column.replace("_", " ")
        title += {"published": ", published", "ours": f", ours (twin, {measured.study.scale})",
                  "both": ""}[part]
        axes.set_title(title, loc="left", pad=4, fontsize=_fitting(title, width),
                       color=MUTED if part == "published" else INK)
    put_title(figure, found.paper.table)
    f.put_caption(figure, caption)
    return figure


def _fitting(title: str, width: float) -> float:
    """The size in points at which a title is no wider than its panel, at most the usual one."""
    return min(f.NORMAL, f.NORMAL * (width + 0.06) / f.text_width(title, f.NORMAL))


def _panel(axes: Axes, found: Dots, column: str, part: str, heights: Sequence[float],
           names: bool) -> None:
    """One column; the row's name stands left of the first panel of a line."""
    places = np.cumsum(heights) - np.asarray(heights) / 2
    cells = [found.at(row, column) for row, _ in found.rows]
    values = [value for cell in cells if cell for value in _values(cell, part)]
    room = 0.1 * (max(values) - min(values)) or 0.05 * abs(max(values)) or 1.0
    axes.set_xlim(min(values) - room, max(values) + room)
    axes.set_ylim(sum(heights), 0)
    axes.set_yticks(places, ["\n".join(text) if names else "" for _, text in found.rows],
                    fontsize=f.SMALL)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    f.grid_lines(axes, "x")
    axes.locator_params(axis="x", nbins=4)
    unit = next((cell.cell.unit for cell in cells if cell), "")
    axes.set_xlabel("" if unit == PER_ROW else unit)
    for y, cell, (row, _) in zip(places.tolist(), cells, found.rows, strict=True):
        axes.axhline(y, color=MUTED, linewidth=0.3, alpha=0.35, zorder=0)
        if cell:
            _dots(axes, cell, _mark(found.paper, row), y, part)


def _values(cell: Result, part: str) -> list[float]:
    """What an axis has to take in."""
    found = [cell.cell.value] if part != "ours" else []
    if part != "published":
        found += [float(cell.ours.mean), cell.ours.low, cell.ours.high]
    return [value for value in found if not np.isnan(value)]


def _mark(paper: PaperResult, row: int) -> Mark:
    """Of the method that fills the row; a mean of its cells names none itself."""
    names = [str(result.told["method"]).split("-")[0] for (place, _), result
             in paper.results.items() if place == row and "method" in result.told]
    return METHODS.get(names[0], PLAIN) if names else PLAIN


def _dots(axes: Axes, cell: Result, mark: Mark, y: float, part: str) -> None:
    size = 6.6 if mark.marker in "PX" else 5.4  # arms leave little inside to be hollow
    if part != "published" and not cell.ours.missing:
        axes.plot([cell.ours.low, cell.ours.high], [y, y], color=mark.color, linewidth=1.3,
                  alpha=0.7, solid_capstyle="butt", zorder=3)
        axes.plot([float(cell.ours.mean)], [y], marker=mark.marker, markersize=size,
                  color=mark.color, markeredgewidth=0, linestyle="none", zorder=4)
    if part != "ours":
        color = MUTED if cell.ours.missing else mark.color
        axes.plot([cell.cell.value], [y], marker=mark.marker, markersize=size, linestyle="none",
                  markerfacecolor=PAPER, markeredgecolor=color, markeredgewidth=1.0, zorder=5)


def _caption(measured: Measured, found: Dots) -> str:
    shown = {name for name, _ in found.panels}
    mine = [r for (_, name), r in found.paper.results.items()
            if name in shown and not r.ours.missing]
    counts = sorted({result.ours.n for result in mine})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    differs = " A twin is not comparable with the published numbers: another scale." \
        if measured.study.scale != "paper" else ""
    gone = sum((row, name) in found.paper.results and bool(
        found.paper.results[row, name].ours.missing) for row, _ in found.rows for name in shown)
    lacking = f" Without a number of ours: {gone} cells, grey." if gone else ""
    return (f"Hollow marks: as published ({found.paper.table.metric}). Filled marks: ours, mean "
            f"over seeds ({n}) with {measured.study.level:.0%} t interval, none at n = 1; "
            f"{found.paper.note}.{differs}{lacking}")
