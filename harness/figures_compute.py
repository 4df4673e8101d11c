"""Figure "compute": accuracy against what an encoder has cost, in images and in device seconds.

DnC (arXiv 2105.08054) draws its figure 1 so, against epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness import figures as f
from harness.measured import Condition, Measured, Method
from harness.palette import INK, MUTED, PAPER
from harness.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS = {"images_seen": "images seen in pre-training",
         "device_seconds": "device seconds of pre-training"}
SAME = 1.02  # costs that differ by less are one cost: an axis of them would show nothing
HEAD, PANEL, FOOT, TICKS = 0.5, 2.4, 0.42, 0.5  # inches
LINE = 0.165  # inches between the lines of the key
Point = tuple[Method, Condition, float]


def points(measured: Measured, table: Table, cost: str) -> list[Point]:
    """(method, condition, mean cost over seeds) of every cell with a trained encoder."""
    values = measured.records[cost].to_numpy(np.float64)
    images = measured.records["images_seen"].to_numpy(np.float64)
    found = []
    for row in (*table.methods, *table.references):
        for column in table.columns:
            cell = table.cell(row, column)
            if not cell.estimate.missing and images[list(cell.rows)].all():
                found.append((row, column, float(values[list(cell.rows)].mean())))
    return found


def compute(measured: Measured, table: Table) -> Figure | None:
    """Accuracy against each cost that differs between methods; None where none does."""
    panels = {cost: found for cost in COSTS if _differs(found := points(measured, table, cost))}
    if not panels:
        return None
    caption = f.caption_lines(measured.study, table, "; costs: mean over seeds, everything that "
                              "the encoder was made from")
    foot = FOOT + f.caption_height(caption)
    figure = f.new_figure(HEAD + PANEL + foot)
    shown = list(dict.fromkeys(row for found in panels.values() for row, _, _ in found))
    key = max(f.text_width(_short(row)) for row in shown) + 0.34
    space = f.WIDTH - f.MARGIN * 2 - key - TICKS * len(panels) - 0.1
    width = space / len(panels)
    for i, (cost, found) in enumerate(panels.items()):
        left = f.MARGIN + TICKS + i * (width + TICKS)
        axes = f.axes_at(figure, left, foot, width, PANEL)
        _panel(axes, table, found, cost)
        if not i:
            axes.set_ylabel(f.axis_title(table))
    _key(figure, table, shown, f.MARGIN + len(panels) * (width + TICKS) + 0.14)
    f.put_title(figure, measured.study, table)
    f.put_caption(figure, caption)
    return figure


def _short(row: Method) -> str:
    return f.folded(row.label).split("\n")[0]


def _differs(found: Sequence[Point]) -> bool:
    costs = [cost for _, _, cost in found]
    return len({row.id for row, _, _ in found}) > 1 and max(costs) > SAME * min(costs)


def _panel(axes: Axes, table: Table, found: Sequence[Point], cost: str) -> None:
    marks = f.row_marks(table)
    cells = [table.cell(row, column) for row, column, _ in found]
    low, high = f.extent(cells)
    axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    costs = [x for _, _, x in found]
    f.cost_axis(axes, min(costs), max(costs))
    axes.set_xlabel(COSTS[cost])
    f.grid_lines(axes, "both")
    for (row, column, x), cell in zip(found, cells, strict=True):
        mean, lower, upper = f.percent(cell)
        mark, (_, filled) = marks[row.id], f.shape_of(table, column)
        axes.plot([x, x], [lower, upper], color=mark.color, linewidth=1.1, alpha=0.6, zorder=2)
        axes.plot([x], [mean], marker=mark.marker, markersize=6, linestyle="none", zorder=3,
                  markeredgewidth=1.2, markeredgecolor=mark.color,
                  markerfacecolor=mark.color if filled else PAPER)


def _key(figure: Figure, table: Table, rows: Sequence[Method], left: float) -> None:
    """Names of the methods, and what filled and open marks mean, right of the panels."""
    from matplotlib.lines import Line2D

    height, marks = figure.get_size_inches()[1], f.row_marks(table)
    y = height - HEAD - 0.08

    def line(text: str, marker: str, color: str, filled: bool, ink: str) -> None:
        nonlocal y
        figure.add_artist(Line2D([(left + 0.05) / f.WIDTH], [y / height], marker=marker,
                                 markersize=5.5, linestyle="none", markeredgewidth=1.1,
                                 markeredgecolor=color, markerfacecolor=color if filled else PAPER))
        figure.text((left + 0.16) / f.WIDTH, y / height, text, fontsize=7,
                    va="center_baseline", color=ink)
        y -= LINE

    for row in rows:
        line(_short(row), marks[row.id].marker, marks[row.id].color, True,
             MUTED if row.reference else INK)
    if len(table.columns) > 1:
        y -= 0.08
        others = [c.label for c in table.columns if c.id != table.base]
        base = next((c.label for c in table.columns if c.id == table.base), "")
        if base:
            line(base, "o", MUTED, True, MUTED)
        line(others[0] if len(others) == 1 else "other conditions", "o", MUTED, False, MUTED)
