"""Figure "curve": accuracy against level, and beside it what is lost against the first level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING

from harness import figures as f
from harness.measured import Condition, Method, Study
from harness.palette import INK, MUTED, Mark
from harness.tables import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, HEAD, FOOT, TICKS = 2.5, 0.62, 0.42, 0.36  # inches
LABEL_GAP = 0.125  # inches between the base lines of direct labels


def curve(study: Study, accuracy: Table, differences: Table | None) -> Figure:
    """Lines with interval bands and single seeds, named at their ends; references dashed grey."""
    caption = f.caption_lines(study, accuracy)
    foot = FOOT + f.caption_height(caption)
    height = HEAD + PANEL + foot
    figure = f.new_figure(height)
    names = max(f.text_width(_name(r), f.SMALL + 0.5, "bold") for r in accuracy.rows) + 0.16
    left, between = f.MARGIN + TICKS, names + TICKS + 0.16
    panels = 2 if differences else 1
    width = (f.WIDTH - left - f.MARGIN - names - between * (panels - 1)) / panels
    one = f.axes_at(figure, left, foot, width, PANEL)
    _panel(one, study, accuracy, f.axis_title(accuracy), list(accuracy.references))
    if differences:
        two = f.axes_at(figure, left + width + between, foot, width, PANEL)
        # the axis below names the quantity: with it the title outgrew the panel
        label = f"Lost against {study.base.label} (points)"
        _panel(two, study, differences, label, [])
        two.axhline(0, color=INK, linewidth=0.8, zorder=1)
    f.put_title(figure, study, accuracy)
    f.put_caption(figure, caption)
    return figure


def _name(row: Method) -> str:
    return shorten(row.label, 18, placeholder="\u2026") if len(row.label) > 18 else row.label


def levels(study: Study, columns: Sequence[Condition]) -> list[float]:
    """Places on the level axis; conditions without a level are counted."""
    values = [column.level for column in columns]
    if any(value is None for value in values):
        order = [condition.id for condition in study.conditions]
        return [float(order.index(column.id)) for column in columns]
    return [float(value) for value in values if value is not None]


def _panel(axes: Axes, study: Study, table: Table, title: str,
           references: list[Method]) -> None:
    x = levels(study, table.columns)
    _level_axis(axes, study)
    axes.set_ylim(f.limits(table))
    axes.set_title(title, loc="left", pad=5)
    f.grid_lines(axes, "y")
    marks, ends = f.row_marks(table), []
    for row in table.methods:
        cells = [table.cell(row, column) for column in table.columns]
        _line(axes, x, cells, marks[row.id])
        ends.append((row, cells))
    for row in references:
        cells = [table.cell(row, column) for column in table.columns]
        _reference(axes, x, cells, marks[row.id])
        ends.append((row, cells))
    _end_labels(axes, ends, marks)
    _thin_ticks(axes)


def _level_axis(axes: Axes, study: Study) -> None:
    """Ticks at the levels themselves; the same axis in both panels."""
    from matplotlib.ticker import NullLocator

    x = levels(study, study.conditions)
    if study.axis_log:
        positive = [v for v in x if v > 0]
        if len(positive) == len(x):
            axes.set_xscale("log")
        else:  # a level of 0, such as "no noise", has its place left of the smallest other one
            axes.set_xscale("symlog", linthresh=min(positive, default=1.0))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(x, [c.label if c.level is None else f"{c.level:g}" for c in study.conditions])
    axes.set_xlabel(study.axis_label)
    transform = axes.xaxis.get_transform()
    first, last = transform.transform([min(x), max(x)])
    pad = 0.05 * (last - first) or 0.5
    axes.set_xlim(tuple(transform.inverted().transform([first - pad, last + pad])))


def _thin_ticks(axes: Axes) -> None:
    """Blank the tick labels that would touch their neighbour; the last one always stays."""
    ticks, width = list(axes.get_xticks()), axes.get_position().width * f.WIDTH
    labels = [label.get_text() for label in axes.get_xticklabels()]
    place = axes.transAxes.inverted().transform(
        axes.transData.transform([(tick, axes.get_ylim()[0]) for tick in ticks]))[:, 0] * width
    right = float("inf")
    for i in sorted(range(len(ticks)), key=lambda i: -place[i]):
        half = f.text_width(labels[i], 7) / 2
        if place[i] + half + 0.05 > right:
            labels[i] = ""
        else:
            right = place[i] - half
    axes.set_xticks(ticks, labels)


def _last(cells: Sequence[Cell]) -> Cell | None:
    present = [cell for cell in cells if not cell.estimate.missing]
    return present[-1] if present else None


def _line(axes: Axes, x: Sequence[float], cells: Sequence[Cell], mark: Mark) -> None:
    """Mean, band and seeds; a line is not drawn across a missing level."""
    nan = float("nan")
    points = [(nan, nan, nan) if c.estimate.missing else f.percent(c) for c in cells]
    mean, low, high = ([point[i] for point in points] for i in range(3))
    axes.fill_between(x, low, high, color=mark.color, alpha=0.13, linewidth=0, zorder=1)
    axes.plot(x, mean, color=mark.color, linewidth=1.3, marker=mark.marker, markersize=4.2,
              markeredgewidth=0, zorder=3)
    for place, cell in zip(x, cells, strict=True):
        axes.plot([place] * len(cell.values), [cell.estimate.scale * v for v in cell.values],
                  linestyle="none",
                  marker="o", markersize=1.9, markeredgewidth=0, color=mark.color, alpha=0.55,
                  zorder=2)


def _reference(axes: Axes, x: Sequence[float], cells: Sequence[Cell], mark: Mark) -> None:
    shown = [(p, c) for p, c in zip(x, cells, strict=True) if not c.estimate.missing]
    axes.plot([p for p, _ in shown], [f.percent(c)[0] for _, c in shown], color=mark.color,
              linewidth=1.0, dashes=mark.dash or (4, 2), marker=".", markersize=3, zorder=1)


def _end_labels(axes: Axes, lines: Sequence[tuple[Method, list[Cell]]],
                marks: Mapping[str, Mark]) -> None:
    """Names at the right end of the lines, moved apart; what is off scale is said in the panel."""
    low, high = axes.get_ylim()
    ends = [(row, cells, _last(cells)) for row, cells in lines]
    inside = [(row, f.percent(end)[0]) for row, _, end in ends
              if end and low <= f.percent(end)[0] <= high]
    gap = LABEL_GAP / PANEL * (high - low)
    for (row, mean), y in zip(inside, f.spread([m for _, m in inside], gap, low, high),
                              strict=True):
        color = MUTED if row.reference else marks[row.id].color
        axes.annotate(_name(row), (1, mean), (9, (y - mean) * PANEL * 72 / (high - low)),
                      xycoords=("axes fraction", "data"), textcoords="offset points",
                      va="center", fontsize=f.SMALL + 0.5, color=color, annotation_clip=False,
                      fontweight="normal" if row.reference else "bold",
                      arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": color,
                                  "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)})
    outside = [f"{_name(row)} {f.range_text([c for c in cells if not c.estimate.missing])}"
               for row, cells, end in ends if end and row not in [r for r, _ in inside]]
    if outside:
        axes.annotate(f"off scale: {'; '.join(outside)}", (0, 0), (3, 4), fontsize=6,
                      xycoords="axes fraction", textcoords="offset points", color=MUTED)
