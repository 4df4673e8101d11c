"""Figure "clusters": how far clusters of the features are classes (DnC, Table 6 and figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import figures as f
from harness.figures_gap import SEEDS_BELOW
from harness.measured import Measured, Method
from harness.palette import INK, MUTED, PAPER, Mark
from harness.tables import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARE, FIGURE_6, CLUSTERS = "class_in_main_cluster", "dnc/figure6", 5
METRICS = ("mutual_information_bits", "class_in_main_cluster", "majority_top1")
TITLES = {"mutual_information_bits": "mutual information\nwith the classes (bits)",
          "class_in_main_cluster": "share of a class in\nits main cluster (%)",
          "majority_top1": "majority-vote\naccuracy (%)"}
HEAD, FOOT, ROW, BETWEEN = 0.66, 0.52, 0.34, 0.22  # inches


def clusters(measured: Measured, tables: Sequence[Table]) -> Figure:
    """A panel per measure, a row per method, a shape per condition."""
    shown = sorted(tables, key=lambda t: METRICS.index(t.metric))
    rows = [row for row in shown[0].rows if any(
        not t.cell(row, column).estimate.missing for t in shown for column in t.columns)]
    published = _published(measured, shown[0].evaluation)
    caption = f.caption_lines(measured.study, shown[0])
    if published is not None:
        caption += f.wrapped(f"Dashed: {published:g} %, of ImageNet's classes in {CLUSTERS} "
                             "clusters by MoCLR, as published (DnC, figure 6).")
    foot = FOOT + f.caption_height(caption)
    figure = f.new_figure(HEAD + ROW * len(rows) + foot)
    left = f.MARGIN + max(f.text_width(line) for row in rows
                          for line in f.folded(row.label).split("\n")) + 0.12
    width = (f.WIDTH - left - f.MARGIN - BETWEEN * (len(shown) - 1)) / len(shown)
    for i, table in enumerate(shown):
        axes = f.axes_at(figure, left + i * (width + BETWEEN), foot, width, ROW * len(rows))
        _panel(axes, table, rows, published if table.metric == SHARE else None)
        axes.set_yticks([j + 0.5 for j in range(len(rows))],
                        [f.folded(row.label) if not i else "" for row in rows])
    f.put_shapes(figure, shown[0], left, figure.get_size_inches()[1] - 0.52)
    name = shown[0].evaluation.partition("@")
    f.put_title(figure, measured.study, shown[0],
                f"Clusters of the features{' on ' + name[2] if name[2] else ''}")
    f.put_caption(figure, caption)
    return figure


def _published(measured: Measured, evaluation: str) -> float | None:
    """What the paper prints in percent, where every record is of as many clusters as there.

    The share of a class in its main cluster falls with their number: of another k it is another
    quantity. None where how the records were made was not kept.
    """
    from harness.beside import runs
    from harness.papers import tables

    frame, made = measured.records, runs(measured)
    keys = frame["evaluate_key"][frame["evaluation"] == evaluation].unique()
    ks = {made.params[made.stages[key][2]].get("options", {}).get("k") if key in made.stages
          else None for key in keys}
    if ks != {CLUSTERS}:
        return None
    return next(cell.value for cell in tables()[FIGURE_6].cells
                if cell.fill and cell.fill["metric"] == SHARE)


def _panel(axes: Axes, table: Table, rows: Sequence[Method], published: float | None) -> None:
    marks = f.row_marks(table)
    cells = [table.cell(row, column) for row in rows for column in table.columns]
    low, high = f.extent(cells)
    if published is not None:
        low, high = min(low, published), max(high, published)
        axes.axvline(published, color=INK, linewidth=0.9, dashes=(4, 2), zorder=1)
    room = 0.08 * (high - low) or 1.0
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(len(rows), 0)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    f.grid_lines(axes, "x")
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(TITLES[table.metric])
    for i, row in enumerate(rows):
        for j, column in enumerate(table.columns):
            lane = i + 0.5 + (j - (len(table.columns) - 1) / 2) * 0.8 / max(2, len(table.columns))
            cell = table.cell(row, column)
            if not cell.estimate.missing:
                _point(axes, cell, lane - SEEDS_BELOW / 3, marks[row.id],
                       f.shape_of(table, column))
            elif not table.cell(row, column).values:
                axes.annotate("not measured", (0, lane), (3, 0), va="center", fontsize=6,
                              xycoords=("axes fraction", "data"), textcoords="offset points",
                              color=MUTED, style="italic")


def _point(axes: Axes, cell: Cell, y: float, mark: Mark, shape: tuple[str, bool]) -> None:
    """Interval, single seeds below it, and the mean."""
    mean, low, high = f.percent(cell)
    axes.plot([low, high], [y, y], color=mark.color, linewidth=1.2, alpha=0.75, zorder=2)
    axes.plot([cell.estimate.scale * v for v in cell.values],
              [y + SEEDS_BELOW] * len(cell.values), linestyle="none", marker="o", markersize=2,
              color=mark.color, markeredgewidth=0, alpha=0.8, zorder=4)
    axes.plot([mean], [y], marker=shape[0], markersize=5.6, markeredgewidth=1.1, zorder=3,
              markerfacecolor=mark.color if shape[1] else PAPER, markeredgecolor=mark.color)
