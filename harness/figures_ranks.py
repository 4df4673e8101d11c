"""Figure "ranks": average ranks with the critical difference, after Demsar (JMLR 2006)."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from harness import figures as f
from harness.measured import Measured, Study
from harness.palette import INK, MUTED, Mark, marks
from harness.rankings import Ranked, Ranking, as_csv, markdown, rankings, sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD, ROW, BAR = 0.92, 0.19, 0.085  # inches: title and bracket, one label, one bar of a group
GAP = 0.10  # inches between a line's end and its label
LONGEST, ELLIPSIS = 34, "\u2026"  # characters of a label: two of them leave half the width


def draw_ranks(measured: Measured) -> dict[str, bytes]:
    """Path below the study's folder -> content: figure and tables of each evaluation that has ranks
    at the headline metric; nothing where too little is measured."""
    files: dict[str, bytes] = {}
    for ranked in rankings(measured):
        name = f"ranks-{ranked.evaluation}-{ranked.metric}"
        with f.style():
            drawn = f.render(ranks(measured.study, ranked))
        files |= {f"figures/{name}.{suffix}": data for suffix, data in drawn.items()}
        files |= {f"tables/{name}.csv": as_csv(ranked).encode(),
                  f"tables/{name}.md": markdown(ranked).encode()}
    return files


def ranks(study: Study, ranked: Ranking) -> Figure:
    """A scale of ranks, best on the left; methods hang from it, half to either side; a bar joins
    those that are not told apart."""
    lines = textwrap.wrap(f"{sentence(ranked)} Data: {study.data_label}, scale {study.scale}.", 140)
    half = (len(ranked.rows) + 1) // 2
    above = 0.14 + BAR * len(ranked.groups)
    height = HEAD + above + half * ROW + 0.12 + f.caption_height(lines)
    figure = f.new_figure(height)
    scale = Scale(figure, ranked, height - HEAD)
    scale.axis()
    scale.critical(height - 0.44)
    for i, (first, last) in enumerate(ranked.groups):
        scale.bar(ranked.rows[first].rank, ranked.rows[last].rank, height - HEAD - 0.1 - BAR * i)
    chosen = marks([row.method.id for row in ranked.rows])
    for i, row in enumerate(ranked.rows):
        place = i if i < half else len(ranked.rows) - 1 - i
        scale.method(row, height - HEAD - above - place * ROW - 0.08, i < half,
                     chosen[row.method.id])
    _title(figure, study, ranked, height)
    f.put_caption(figure, lines)
    return figure


class Scale:
    """Where a rank lies on the page, in inches, and what is drawn there."""

    def __init__(self, figure: Figure, ranked: Ranking, top: float) -> None:
        """`top` is the height of the axis above the foot of the figure."""
        self.figure, self.ranked, self.top = figure, ranked, top
        labels = [_label(row) for row in ranked.rows]
        room = f.MARGIN + max(f.text_width(label) for label in labels) + GAP + 0.12
        self.left, self.right = room, f.WIDTH - room
        self.height = float(figure.get_size_inches()[1])

    def x(self, rank: float) -> float:
        """The place of a rank, in inches from the left."""
        share = (rank - 1) / (len(self.ranked.rows) - 1)
        return self.left + share * (self.right - self.left)

    def line(self, xs: tuple[float, ...], ys: tuple[float, ...], color: str = INK,
             width: float = 0.8, cap: str = "butt") -> None:
        """A polygonal line through points in inches."""
        from matplotlib.lines import Line2D

        self.figure.add_artist(Line2D(
            [x / f.WIDTH for x in xs], [y / self.height for y in ys], color=color, linewidth=width,
            solid_capstyle=cap, solid_joinstyle="miter"))  # type: ignore[arg-type]

    def text(self, x: float, y: float, text: str, align: str = "center", color: str = INK,
             size: float = f.NORMAL) -> None:
        """Text at a point in inches."""
        self.figure.text(x / f.WIDTH, y / self.height, text, ha=align, va="center", color=color,
                         fontsize=size)

    def axis(self) -> None:
        """The scale with a tick for every whole rank, and as many numbers as there is room for."""
        self.line((self.left, self.right), (self.top, self.top))
        count = len(self.ranked.rows)
        room = f.text_width(str(count)) + 0.06
        step = next(s for s in (1, 2, 5, 10, 20, count) if s * (self.x(2) - self.x(1)) >= room)
        for rank in range(1, count + 1):
            self.line((self.x(rank), self.x(rank)), (self.top, self.top + 0.05))
            if rank == 1 or (rank % step == 0 and rank - 1 >= step / 2):
                self.text(self.x(rank), self.top + 0.12, str(rank))

    def critical(self, y: float) -> None:
        """The bracket that shows how long the critical difference is."""
        text = f"critical difference {self.ranked.critical:.2f}"
        inside = self.x(1 + self.ranked.critical) <= self.right
        end = self.x(1 + self.ranked.critical) if inside else self.right
        text += "" if inside else ", longer than the scale"
        self.line((self.left, end), (y, y), MUTED)
        for x in (self.left, end)[:2 if inside else 1]:  # no end where it is not reached
            self.line((x, x), (y - 0.035, y + 0.035), MUTED)
        if end + 0.08 + f.text_width(text, f.SMALL) < f.WIDTH - f.MARGIN:
            self.text(end + 0.08, y, text, "left", MUTED, f.SMALL)
        else:
            self.text((self.left + end) / 2, y + 0.09, text, "center", MUTED, f.SMALL)

    def bar(self, first: float, last: float, y: float) -> None:
        """Joins methods that are not told apart."""
        self.line((self.x(first) - 0.04, self.x(last) + 0.04), (y, y), INK, 2.6)

    def method(self, row: Ranked, y: float, left: bool, mark: Mark) -> None:
        """From the scale down to the label, in the method's colour, with its mark on the scale."""
        from matplotlib.lines import Line2D

        end = self.left - GAP if left else self.right + GAP
        self.line((self.x(row.rank), self.x(row.rank), end), (self.top, y, y), mark.color, 1.1)
        self.figure.add_artist(Line2D(
            [self.x(row.rank) / f.WIDTH], [self.top / self.height], marker=mark.marker,
            markersize=5, markeredgewidth=0, markerfacecolor=mark.color, linestyle="none"))
        self.text(end - 0.05 if left else end + 0.05, y, _label(row), "right" if left else "left")


def _label(row: Ranked) -> str:
    label = row.method.label
    return f"{label if len(label) <= LONGEST else label[:LONGEST - 1] + ELLIPSIS}  {row.rank:.2f}"


def _title(figure: Figure, study: Study, ranked: Ranking, height: float) -> None:
    title = f"{study.title}: ranks"
    figure.text(f.MARGIN / f.WIDTH, 1 - 0.10 / height, title, fontsize=9, fontweight="bold",
                va="top")
    figure.text((f.MARGIN + f.text_width(title, 9, "bold") + 0.12) / f.WIDTH, 1 - 0.125 / height,
                ranked.title, fontsize=f.NORMAL, color=MUTED, va="top")
