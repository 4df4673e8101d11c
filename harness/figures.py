"""The figures of a study, drawn from its tables and records: which, follows from what they hold.

    gap, curve    accuracy by condition or by level, and what is lost; every evaluation
    compute       accuracy against images seen and device seconds
    classes       accuracy on each class by its frequency
    clusters      how classes fall into clusters
    paper-...     a published curve and ours (figures_papers)

matplotlib and seaborn are imported when a figure is drawn, never before; no pyplot state is
touched. The bytes depend on the numbers and the versions of matplotlib and seaborn only.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.evaluation.measures import measure
from harness.measured import Condition, Measured, Method, Study
from harness.palette import GRID, INK, MUTED, PAPER, Mark, marks
from harness.statistics import number
from harness.tables import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches: the text width of a two-column conference page
MARGIN = 0.12
SMALL, NORMAL = 6.5, 7.5  # points
STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the same figure on every machine
    "font.size": NORMAL, "axes.labelsize": NORMAL, "axes.titlesize": NORMAL,
    "xtick.labelsize": 7, "ytick.labelsize": NORMAL, "axes.linewidth": 0.6,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 3,
    "ytick.major.size": 3, "xtick.major.pad": 2.5, "axes.labelpad": 3.0, "axes.axisbelow": True,
    "text.color": INK, "axes.edgecolor": MUTED, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "curation-gap",
    "path.simplify": False, "text.parse_math": False, "axes.unicode_minus": True,
}
# One entry per condition: (marker, filled). The base condition is the filled circle.
SHAPES = (("o", True), ("o", False), ("s", False), ("D", False), ("^", False), ("v", False))


def draw_all(measured: Measured, tables: Sequence[Table]) -> dict[str, bytes]:
    """Path below the study's folder -> content: what the study's records have something to show in.

    Of every evaluation at its promised metric: "gap" or "curve"; of the headline also "compute"
    and "classes"; of evaluations of clusters, "clusters".
    """
    files: dict[str, bytes] = {}
    with style():
        for name, figure in _figures(measured, tables):
            files.update({f"figures/{name}.{suffix}": data
                          for suffix, data in render(figure).items()})
    return files


def _figures(measured: Measured,
             tables: Sequence[Table]) -> Iterator[tuple[str, Figure]]:
    """Each figure that the records have something to show in, with its name."""
    from harness.beside import classes
    from harness.figures_classes import rank_classes
    from harness.figures_clusters import METRICS, clusters
    from harness.figures_compute import compute
    from harness.figures_papers import paper_curves

    study, found = measured.study, classes(measured)
    accuracies = [t for t in tables if t.kind == "accuracy" and any(
        not cell.estimate.missing for cell in t.cells.values())]
    for table in accuracies:
        if table.metric != study.promised(table.evaluation)[0] or table.metric in METRICS:
            continue
        differences = [t for t in tables if t.kind == "difference" and
                       (t.evaluation, t.metric) == (table.evaluation, table.metric)]
        yield f"{study.figure}-{table.name}", _main(study, table, *differences)
        if (table.evaluation, table.metric) == study.headline:
            for name, figure in (("compute", compute(measured, table)),
                                 ("classes", rank_classes(measured, table, found))):
                if figure:
                    yield f"{name}-{table.name}", figure
    for evaluation in study.evaluations:
        parts = [t for t in accuracies if t.evaluation == evaluation and t.metric in METRICS]
        if parts:
            yield f"clusters-{evaluation.replace('@', '-')}", clusters(measured, parts)
    yield from paper_curves(measured)


def draw(study: Study, accuracy: Table, differences: Table | None = None) -> dict[str, bytes]:
    """The figure that the study asks for as {"png": ..., "pdf": ..., "svg": ...}."""
    with style():
        return render(_main(study, accuracy, differences))


def _main(study: Study, accuracy: Table, differences: Table | None = None) -> Figure:
    from harness.figures_curve import curve
    from harness.figures_gap import gap

    return (curve if study.figure == "curve" else gap)(study, accuracy, differences)


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures, set for a block and then taken back."""
    import matplotlib
    import seaborn

    with matplotlib.rc_context({**seaborn.axes_style("ticks"), **STYLE}):
        yield


def render(figure: Figure) -> dict[str, bytes]:
    """PNG at 200 dpi, PDF with embedded fonts and SVG, without dates or version strings."""
    options: dict[str, dict[str, Any]] = {
        "png": {"dpi": 200, "metadata": {"Software": None}},
        "pdf": {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}},
        "svg": {"metadata": {"Date": None, "Creator": None}},
    }
    files = {}
    for suffix, settings in options.items():
        out = io.BytesIO()
        figure.savefig(out, format=suffix, facecolor=PAPER, **settings)
        files[suffix] = out.getvalue()
    return files


# -- parts that both figures share ---------------------------------------------------------------


def new_figure(height: float) -> Figure:
    """An empty figure of `height` inches on an Agg canvas of its own, unknown to pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches."""
    import seaborn

    full_width, full_height = figure.get_size_inches()
    axes = figure.add_axes((left / full_width, bottom / full_height, width / full_width,
                            height / full_height))
    seaborn.despine(ax=axes)
    return axes


@cache
def text_width(text: str, size: float = NORMAL, weight: str = "normal") -> float:
    """Width of one line of text in inches, from the font's own metrics."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    font = FontProperties(family="DejaVu Sans", weight=weight)
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().width) / 72


def wrapped(text: str) -> list[str]:
    """A caption in lines."""
    return textwrap.wrap(text, 140)


def caption_lines(study: Study, accuracy: Table, more: str | None = None) -> list[str]:
    """What a reader needs below the figure: n, interval, data, and what is missing.

    `more` is said of marks that stand alone, without single seeds and differences.
    """
    counts = sorted({c.estimate.n for c in accuracy.cells.values() if not c.estimate.missing})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}" \
        if counts else "nothing measured yet"
    data = f"Data: {study.data_label}, scale {study.scale}."
    sentences = [
        f"Large marks: mean over seeds ({n}); bars and bands: {study.level:.0%} t interval, none "
        f"at n = 1; small dots: single seeds. Differences are paired by seed. {data}"
        if more is None else
        f"Marks: mean over seeds ({n}); bars: {study.level:.0%} t interval, none at n = 1{more}. "
        f"{data}"]
    gone = [f"{row.label} on {column.label}" for row in accuracy.rows for column in accuracy.columns
            if accuracy.cell(row, column).estimate.missing]
    if gone:
        shown = ", ".join(gone[:6]) + (f" and {len(gone) - 6} more" if len(gone) > 6 else "")
        sentences.append(f"Not measured: {shown}.")
    return wrapped(" ".join(sentences))


def put_caption(figure: Figure, lines: Sequence[str]) -> None:
    """Small text at the foot of the figure."""
    figure.text(MARGIN / WIDTH, 0.07 / figure.get_size_inches()[1], "\n".join(lines),
                fontsize=SMALL, color=MUTED, va="bottom", linespacing=1.35)


def caption_height(lines: Sequence[str]) -> float:
    """Inches that `put_caption` needs."""
    return 0.13 + len(lines) * SMALL * 1.35 / 72


def put_shapes(figure: Figure, table: Table, left: float, y: float) -> None:
    """What the shapes of the conditions mean, on one line; places in inches."""
    from matplotlib.lines import Line2D

    x, y = left, y / figure.get_size_inches()[1]
    for column in table.columns:
        marker, filled = shape_of(table, column)
        figure.add_artist(Line2D([(x + 0.05) / WIDTH], [y], marker=marker, markersize=5.5,
                                 linestyle="none", markeredgewidth=1.1, markeredgecolor=INK,
                                 markerfacecolor=INK if filled else PAPER))
        figure.text((x + 0.14) / WIDTH, y, column.label, fontsize=NORMAL,
                    va="center_baseline")
        x += 0.14 + text_width(column.label) + 0.22


def put_title(figure: Figure, study: Study, accuracy: Table, measured: str = "") -> None:
    """The title and, lighter, what is measured: by default the table's own title."""
    height, measured = figure.get_size_inches()[1], measured or accuracy.title
    title = figure.text(MARGIN / WIDTH, 1 - 0.10 / height, study.title, fontsize=9,
                        fontweight="bold", va="top")
    left = MARGIN + text_width(study.title, 9, "bold") + 0.12
    if left + text_width(measured, NORMAL) < WIDTH - MARGIN:
        figure.text(left / WIDTH, 1 - 0.125 / height, measured, fontsize=NORMAL,
                    color=MUTED, va="top")
    else:
        title.set_wrap(True)


def axis_title(table: Table) -> str:
    """What is measured, with its unit."""
    found = measure(table.metric)
    unit = "%" if found.unit == "share" else found.unit
    return f"{table.title} ({unit})" if unit else table.title


def minus(text: str) -> str:
    """Text with the minus sign that the axes use in place of the hyphen."""
    return re.sub(r"(?<![^ \[])-(?=[\d ])", "\u2212", text)


def percent(cell: Cell) -> tuple[float, float, float]:
    """Mean and interval ends as they are printed (shares in percent).

    The ends equal the mean where there is no interval.
    """
    mean = cell.estimate.scale * float(cell.estimate.mean)
    ends = cell.estimate.scale * np.array([cell.estimate.low, cell.estimate.high])
    low, high = np.where(np.isnan(ends), mean, ends)
    return mean, float(low), float(high)


def range_text(cells: Sequence[Cell]) -> str:
    """The means of some cells in short: "32.1 ± 0.4 (n=3)", or "31.0 to 31.4 (n=3 each)"."""
    if len(cells) == 1:
        return cells[0].estimate.text()
    means = [percent(cell)[0] for cell in cells]
    counts = sorted({cell.estimate.n for cell in cells})
    n = f"n={counts[0]} each" if len(counts) == 1 else f"n={counts[0]} to {counts[-1]}"
    return f"{number(min(means))} to {number(max(means))} ({n})"


def folded(label: str) -> str:
    """A row's label on at most two lines."""
    return "\n".join(textwrap.wrap(label, 24, max_lines=2, placeholder=" \u2026")) or label


def extent(cells: Sequence[Cell]) -> tuple[float, float]:
    """The range of means, single seeds and intervals in percent.

    An interval counts with at most three times the range of the seeds: at n = 2 it is 12.7
    standard errors wide and would leave no room for anything else.
    """
    inner = [c.estimate.scale * v for c in cells for v in c.values] or [0.0, 100.0]
    low, high = min(inner), max(inner)
    reach = max(high - low, 4.0)
    ends = [end for c in cells if not c.estimate.missing for end in percent(c)[1:]]
    return (max(min([low, *ends]), low - reach), min(max([high, *ends]), high + reach))


def limits(table: Table, pad: float = 0.06) -> tuple[float, float]:
    """Axis limits in percent: all compared rows, and the reference rows that are not far away."""
    def cells(rows: Sequence[Method]) -> list[Cell]:
        return [table.cell(row, column) for row in rows for column in table.columns]

    low, high = extent(cells(table.methods or table.references))
    span = max(high - low, 8.0)
    for row in table.references:
        measured = [c for c in cells([row]) if not c.estimate.missing]
        if measured:
            ends = extent(measured)
            if low - span <= ends[0] and ends[1] <= high + span:
                low, high = min(low, ends[0]), max(high, ends[1])
    room = pad * (high - low) + max(0.0, 4.0 - (high - low)) / 2
    return low - room, high + room


def row_marks(table: Table) -> Mapping[str, Mark]:
    """The mark of every row."""
    return marks([row.id for row in table.methods], [row.id for row in table.references])


def shape_of(table: Table, column: Condition) -> tuple[str, bool]:
    """(marker, filled) of a condition: the base is filled, the others are open."""
    others = [c.id for c in table.columns if c.id != table.base]
    if column.id == table.base:
        return SHAPES[0]
    return SHAPES[1 + others.index(column.id) % (len(SHAPES) - 1)]


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels as little as possible so that they lie `gap` apart, within [low, high].

    Least squares under a minimum distance is isotonic regression of `place - rank * gap`; solved
    by pooling adjacent violators.
    """
    order = np.argsort(places, kind="stable")
    pools: list[list[float]] = []  # [mean, size]
    for rank, index in enumerate(order):
        pools.append([places[index] - rank * gap, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, size = pools.pop()
            before, count = pools[-1]
            pools[-1] = [(before * count + mean * size) / (count + size), count + size]
    flat = [mean for mean, size in pools for _ in range(int(size))]
    placed = np.empty(len(places))
    top = max(low, high - gap * (len(places) - 1))
    for rank, index in enumerate(order):
        placed[index] = min(max(flat[rank], low), top) + rank * gap
    return placed.tolist()


def cost_axis(axes: Axes, low: float, high: float) -> None:
    """An x axis of costs in engineering units: linear, or logarithmic above a factor of 8."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    log = low > 0 and high / low > 8
    if log:
        axes.set_xscale("log")
        steps = (1.0,) if high / low > 200 else (1.0, 2.0, 5.0)
        axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=20))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(low / (high / low) ** 0.06, high * (high / low) ** 0.06)
    else:
        room = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
        axes.set_xlim(low - room, high + room)
        axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(EngFormatter(sep="\u202f"))


def grid_lines(axes: Axes, axis: str) -> None:
    """Faint lines behind the data."""
    axes.grid(True, axis=axis, color=GRID, linewidth=0.5)  # type: ignore[arg-type]
