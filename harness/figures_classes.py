"""Figure "classes": accuracy on a class against its rank by frequency, a small panel per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness import figures as f
from harness.beside import Classes
from harness.measured import Condition, Measured, Method, describe
from harness.palette import INK, MUTED, PAPER, Mark
from harness.statistics import summarise
from harness.tables import Table, capital

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAD, PANEL, BETWEEN, FOOT, TICKS = 0.78, 1.05, 0.3, 0.42, 0.42  # inches
COLUMNS, BINS, SHOWN = 4, 10, 2  # panels in a line, bins of classes, conditions of an axis
DASHES = ((), (4.0, 2.0), (1.0, 1.5), (6.0, 1.5, 1.0, 1.5))
Floats = npt.NDArray[np.float64]


def by_rank(found: Classes, method: str, condition: str, evaluation: str) -> Floats | None:
    """Accuracies (classes, seeds), the most frequent class of each seed first, in percent."""
    columns = []
    for seed, counts in sorted(found.counts.items()):
        accuracy = found.accuracy.get((method, condition, seed, evaluation))
        if accuracy is not None and len(accuracy) == len(counts):
            columns.append(100 * accuracy[np.argsort(-counts, kind="stable")])
    return np.stack(columns, axis=1) if columns else None


def binned(values: Floats) -> tuple[Floats, Floats]:
    """Middle ranks (bins,) and means (bins, seeds) of at most `BINS` equal bins of classes."""
    parts = np.array_split(np.arange(len(values)), min(BINS, len(values)))
    return (np.array([part.mean() + 1 for part in parts]),
            np.stack([values[part].mean(axis=0) for part in parts]))


def rank_classes(measured: Measured, table: Table, found: Classes) -> Figure | None:
    """A panel per method, a line per condition; None where all conditions are balanced."""
    columns = list(table.columns)
    if measured.study.figure == "curve" and len(columns) > SHOWN:
        columns = [columns[0], columns[-1]]  # the ends of the axis
    data = {(row.id, column.id): values for row in table.rows for column in columns[:len(DASHES)]
            if (values := by_rank(found, row.id, column.id, table.evaluation)) is not None}
    rows = [row for row in (*table.methods, *table.references)
            if any(method == row.id for method, _ in data)]
    if not rows:
        return None
    bins = min(BINS, len(next(iter(data.values()))))
    words = (f"Classes by how many images they have in pre-training where it is most imbalanced, "
             f"rank 1 the most; {len(next(iter(data.values())))} classes in {bins} bins. Lines: "
             f"mean over seeds {_counts(data)}; bands: {measured.study.level:.0%} t interval of "
             f"that mean. Data: {measured.study.data_label}, scale {measured.study.scale}.")
    caption = f.wrapped(words)
    return _figure(measured, table, rows, columns[:len(DASHES)], data, caption)


def _counts(data: Mapping[tuple[str, str], Floats]) -> str:
    counts = sorted({values.shape[1] for values in data.values()})
    return f"(n = {counts[0]})" if len(counts) == 1 else f"(n = {counts[0]} to {counts[-1]})"


def _figure(measured: Measured, table: Table, rows: Sequence[Method],
            columns: Sequence[Condition], data: Mapping[tuple[str, str], Floats],
            caption: Sequence[str]) -> Figure:
    across = min(COLUMNS, len(rows))
    down = ceil(len(rows) / across)
    foot = FOOT + f.caption_height(caption)
    height = HEAD + down * PANEL + (down - 1) * BETWEEN + foot
    figure = f.new_figure(height)
    left = f.MARGIN + TICKS
    width = min((f.WIDTH - left - f.MARGIN - 0.16 * (across - 1)) / across, 2.4)
    marks, limits = f.row_marks(table), _limits(data)
    for i, row in enumerate(rows):
        line, place = divmod(i, across)
        axes = f.axes_at(figure, left + place * (width + 0.16),
                         height - HEAD - line * (PANEL + BETWEEN) - PANEL, width, PANEL)
        _panel(axes, row, columns, data, marks[row.id], measured.study.level)
        axes.set_ylim(limits)
        # in the last line, or above a place that stays empty
        axes.tick_params(labelbottom=i + across >= len(rows), labelleft=not place)
    figure.text((left + (across * (width + 0.16) - 0.16) / 2) / f.WIDTH, (foot - 0.3) / height,
                "rank of the class by frequency", ha="center", va="center", fontsize=f.NORMAL)
    figure.text(f.MARGIN / f.WIDTH, (foot + (height - HEAD - foot) / 2) / height,
                "accuracy on the classes (%)", rotation=90, ha="left", va="center",
                fontsize=f.NORMAL)
    _key(figure, table, columns, left, height)
    name = capital(describe(table.evaluation, "top1").replace(" top-1", ""))
    f.put_title(figure, measured.study, table, f"{name} by class, frequent to rare")
    f.put_caption(figure, caption)
    return figure


def _limits(data: Mapping[tuple[str, str], Floats]) -> tuple[float, float]:
    means = np.concatenate([binned(values)[1].mean(axis=1) for values in data.values()])
    room = 0.08 * (means.max() - means.min()) + 2
    return max(-2.0, float(means.min()) - room), min(102.0, float(means.max()) + room)


def _panel(axes: Axes, row: Method, columns: Sequence[Condition],
           data: Mapping[tuple[str, str], Floats], mark: Mark, level: float) -> None:
    axes.set_title(f.folded(row.label).split("\n")[0], loc="left", pad=3, fontsize=7,
                   fontweight="normal" if row.reference else "bold",
                   color=MUTED if row.reference else mark.color)
    f.grid_lines(axes, "y")
    for i, column in enumerate(columns):
        values = data.get((row.id, column.id))
        if values is None:
            continue
        x, means = binned(values)
        band = summarise(means, level)
        axes.fill_between(x, band.low, band.high, color=mark.color, alpha=0.12, linewidth=0,
                          zorder=1)
        axes.plot(x, band.mean, color=mark.color, linewidth=1.2, dashes=DASHES[i] or (None, None),
                  marker="o", markersize=2.6, markeredgewidth=0.8, markeredgecolor=mark.color,
                  markerfacecolor=PAPER if i else mark.color, zorder=3)
    axes.locator_params(axis="both", nbins=5, integer=True)


def _key(figure: Figure, table: Table, columns: Sequence[Condition], left: float,
         height: float) -> None:
    from matplotlib.lines import Line2D

    x, y = left, (height - 0.46) / height
    for i, column in enumerate(columns):
        figure.add_artist(Line2D(
            [x / f.WIDTH, (x + 0.3) / f.WIDTH], [y, y], color=INK, linewidth=1.2,
            dashes=DASHES[i] or (None, None), marker="o", markersize=2.6,
            markerfacecolor=PAPER if i else INK))
        figure.text((x + 0.38) / f.WIDTH, y, column.label, fontsize=f.NORMAL,
                    va="center_baseline")
        x += 0.38 + f.text_width(column.label) + 0.25
