"""Figure "gap": accuracy per condition on the left, the paired gap per method on the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import figures as f
from harness.measured import Condition, Method, Study
from harness.palette import INK, MUTED, PAPER, Mark
from harness.tables import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEEDS_BELOW = 0.16  # rows: the dots of single seeds hang just under their mean
HEAD, FOOT, BETWEEN = 0.66, 0.42, 0.3  # inches: title and key, axis label, between panels


def gap(study: Study, accuracy: Table, differences: Table | None) -> Figure:
    """One row per method, reference rows in grey below a rule; conditions differ in shape."""
    caption = f.caption_lines(study, accuracy)
    row = 0.20 + 0.12 * max(2, len(study.conditions))  # inches
    rows = _rows(accuracy)
    top = len(accuracy.rows) + (0.4 if accuracy.references and accuracy.methods else 0.0)
    foot = FOOT + f.caption_height(caption)
    height = HEAD + top * row + foot
    figure = f.new_figure(height)
    left = f.MARGIN + max(f.text_width(line) for r in accuracy.rows
                          for line in f.folded(r.label).split("\n")) + 0.12
    texts = _texts(differences)
    right = f.MARGIN + max([f.text_width(t, f.SMALL) for t in texts.values()] or [0.0]) + 0.08
    space = f.WIDTH - left - right - (BETWEEN if differences else 0.0)
    share = 0.56 if differences else 1.0
    one = f.axes_at(figure, left, foot, space * share, top * row)
    _accuracy_panel(one, accuracy, rows, top)
    f.put_shapes(figure, accuracy, left, height - 0.52)
    if differences:
        two = f.axes_at(figure, left + space * share + BETWEEN, foot, space * (1 - share),
                        top * row)
        _gap_panel(two, accuracy, differences, rows, top, texts)
    f.put_title(figure, study, accuracy)
    f.put_caption(figure, caption)
    return figure


def _rows(table: Table) -> dict[str, float]:
    """Row id -> its place on the y axis, counted downwards; references after a small gap."""
    places = {row.id: i + 0.5 for i, row in enumerate(table.methods)}
    start = len(table.methods) + (0.4 if table.methods else 0.0)
    return places | {row.id: start + i + 0.5 for i, row in enumerate(table.references)}


def _texts(differences: Table | None) -> dict[tuple[str, str], str]:
    """The estimate beside every gap, in the right margin."""
    if differences is None:
        return {}
    return {at: f.minus(cell.estimate.text(signed=True)) for at, cell in differences.cells.items()}


def _frame(axes: Axes, table: Table, rows: dict[str, float], top: float) -> None:
    axes.set_ylim(top, 0)
    axes.set_yticks(list(rows.values()), [""] * len(rows))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    f.grid_lines(axes, "x")
    if table.references and table.methods:
        axes.axhline(len(table.methods) + 0.2, color=MUTED, linewidth=0.6)


def _lane(index: int, count: int) -> float:
    """Offset of the index-th of `count` conditions inside its row."""
    return (index - (count - 1) / 2) * 0.8 / max(count, 2) - SEEDS_BELOW / 3


def _accuracy_panel(axes: Axes, table: Table, rows: dict[str, float], top: float) -> None:
    _frame(axes, table, rows, top)
    axes.set_xlim(f.limits(table))
    axes.set_yticks(list(rows.values()), [f.folded(row.label) for row in (*table.methods,
                                                                          *table.references)])
    axes.locator_params(axis="x", nbins=7)
    axes.tick_params(axis="y", pad=4)
    axes.set_xlabel(f.axis_title(table))
    marks = f.row_marks(table)
    for row in table.rows:
        if row.reference:
            axes.get_yticklabels()[list(rows).index(row.id)].set_color(MUTED)
        _accuracy_row(axes, table, row, rows[row.id], marks[row.id])


def _accuracy_row(axes: Axes, table: Table, row: Method, y: float, mark: Mark) -> None:
    low, high = axes.get_xlim()
    outside: dict[str, list[Cell]] = {"left": [], "right": []}
    for i, column in enumerate(table.columns):
        cell, lane = table.cell(row, column), y + _lane(i, len(table.columns))
        if cell.estimate.missing:
            axes.annotate(f"{column.label}: no finished run", (0, lane), (4, 0),
                          xycoords=("axes fraction", "data"), textcoords="offset points",
                          va="center", fontsize=f.SMALL, color=MUTED, style="italic")
        elif not low <= f.percent(cell)[0] <= high:
            outside["left" if f.percent(cell)[0] < low else "right"].append(cell)
        else:
            _point(axes, cell, lane, mark, f.shape_of(table, column))
    for side, cells in outside.items():
        if cells:
            _off_scale(axes, y, side, cells)


def _off_scale(axes: Axes, y: float, side: str, cells: list[Cell]) -> None:
    """Name what lies beyond the axis rather than squeeze everything else."""
    left = side == "left"
    arrow, joined = ("\u25c2 ", "") if left else ("", " \u25b8")
    axes.annotate(f"{arrow}off scale: {f.range_text(cells)}{joined}", (0 if left else 1, y),
                  (2 if left else -2, 0), xycoords=("axes fraction", "data"),
                  textcoords="offset points", va="center", ha=side, fontsize=f.SMALL, color=MUTED)


def _point(axes: Axes, cell: Cell, y: float, mark: Mark, shape: tuple[str, bool]) -> None:
    """Interval, single seeds and mean of one cell, from back to front."""
    mean, low, high = f.percent(cell)
    axes.plot([low, high], [y, y], color=mark.color, linewidth=1.3, solid_capstyle="butt",
              alpha=0.75, zorder=2)
    axes.plot([cell.estimate.scale * v for v in cell.values], [y + SEEDS_BELOW] * len(cell.values),
              linestyle="none", marker="o", markersize=2.2, markerfacecolor=mark.color,
              markeredgewidth=0, alpha=0.8, zorder=4)
    marker, filled = shape
    axes.plot([mean], [y], marker=marker, markersize=6.2, zorder=3, markeredgewidth=1.2,
              markerfacecolor=mark.color if filled else PAPER, markeredgecolor=mark.color)


def _gap_panel(axes: Axes, accuracy: Table, table: Table, rows: dict[str, float], top: float,
               texts: dict[tuple[str, str], str]) -> None:
    _frame(axes, table, rows, top)
    low, high = f.limits(table)
    axes.set_xlim(min(low, -0.06 * (high - low)), max(high, 0.06 * (high - low)))
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    axes.set_xlabel(_gap_label(table))
    marks = f.row_marks(table)
    for row in table.rows:
        for i, column in enumerate(table.columns):
            cell = table.cell(row, column)
            lane = rows[row.id] + _lane(i, len(table.columns))
            if not cell.estimate.missing:
                _point(axes, cell, lane, marks[row.id], _gap_shape(accuracy, column))
            axes.annotate(texts[row.id, column.id], (1, lane), (5, 0),
                          xycoords=("axes fraction", "data"), textcoords="offset points",
                          va="center", fontsize=f.SMALL, annotation_clip=False,
                          color=MUTED if row.reference else INK)


def _gap_label(table: Table) -> str:
    label = table.columns[0].label if len(table.columns) == 1 else "gap to the base condition"
    return f.minus(f"{label} (points)")


def _gap_shape(accuracy: Table, column: Condition) -> tuple[str, bool]:
    if len(accuracy.columns) == 2:
        return "D", True
    return f.shape_of(accuracy, column)
