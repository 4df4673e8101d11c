"""Figure "claims": every tested claim's effect with its interval, by paper, coloured by verdict."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import figures as f
from harness.claim_sheet import NAME, effect_text
from harness.claim_tests import ClaimSheet, Entry, Link
from harness.evaluation.measures import measure
from harness.figures_papers import PAPERS
from harness.palette import INK, MUTED, PAPER, VERDICTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAD, FOOT = 0.62, 0.42  # inches: title and key; axis label
LINE, BETWEEN = 0.122, 0.075  # a line of text, and what is between two rows
LABEL, LETTERS = 2.95, 58  # the column of statements, in inches and in letters
INDENT, POINTS = "    ", "points"


@dataclass(frozen=True)
class Row:
    """A line of the figure: a paper's name, a statement, or a comparison with its effect."""

    lines: tuple[str, ...]
    height: float
    entry: Entry | None = None
    link: Link | None = None
    published: float = math.nan
    bold: bool = False


def draw_claims(sheet: ClaimSheet) -> dict[str, bytes]:
    """claims.png, .pdf and .svg; empty where no claim was tested."""
    if not any(entry.links for entry in sheet.entries):
        return {}
    with f.style():
        return {f"{NAME}.{suffix}": data for suffix, data in f.render(forest(sheet)).items()}


def forest(sheet: ClaimSheet) -> Figure:
    """A row per comparison: mean and interval in points, what would matter, what is published."""
    found = rows(sheet)
    caption = f.wrapped(_caption(sheet))
    height = sum(row.height for row in found)
    foot = FOOT + f.caption_height(caption)
    figure = f.new_figure(HEAD + height + foot)
    texts = [_text(row) for row in found]
    right = f.MARGIN + max(f.text_width(text, f.SMALL) for text in texts) + 0.1
    left = f.MARGIN + LABEL
    axes = f.axes_at(figure, left, foot, f.WIDTH - left - right, height)
    _frame(axes, found, height)
    top = 0.0
    for row, text in zip(found, texts, strict=True):
        _label(axes, row, top)
        if row.link and text:
            _effect(axes, row, top + row.height / 2)
            axes.annotate(text, (1, top + row.height / 2), (7, 0), va="center",
                          xycoords=("axes fraction", "data"), textcoords="offset points",
                          fontsize=f.SMALL, annotation_clip=False)
        top += row.height
    _head(figure, sheet, left)
    f.put_caption(figure, caption)
    return figure


def rows(sheet: ClaimSheet) -> list[Row]:
    """The tested claims by paper; one of several comparisons has them below its statement."""
    several = len({(entry.scale, entry.data) for entry in sheet.entries if entry.links}) > 1
    found: list[Row] = []
    for paper in dict.fromkeys(entry.claim.paper for entry in sheet.entries if entry.links):
        found.append(_row((PAPERS.get(paper, paper),), bold=True))
        for entry in sheet.entries:
            if entry.claim.paper != paper or not entry.links:
                continue
            statement = entry.claim.statement + (f" ({entry.study})" if several else "")
            lines = tuple(textwrap.wrap(statement, LETTERS))
            effects = entry.claim.effects or (math.nan,) * len(entry.links)
            if len(entry.links) == 1:
                found.append(_row(lines, entry, entry.links[0], effects[0]))
                continue
            found.append(_row(lines, entry))
            found += [_row(tuple(textwrap.wrap(link.name, LETTERS, initial_indent=INDENT,
                                               subsequent_indent=INDENT)), entry, link, effect)
                      for link, effect in zip(entry.links, effects, strict=True)]
    return found


def _row(lines: tuple[str, ...], entry: Entry | None = None, link: Link | None = None,
         published: float = math.nan, bold: bool = False) -> Row:
    extra = 0.1 if bold else 0.0
    return Row(lines, len(lines) * LINE + BETWEEN + extra, entry, link, published, bold)


def _text(row: Row) -> str:
    """"+2.1 ± 0.4 points (n=3)"; the unit is on the axis."""
    if row.entry is None or row.link is None:
        return ""
    return f.minus(effect_text(row.entry, row.link).replace(f" {POINTS} ", " "))


def _in_points(row: Row) -> bool:
    return row.entry is not None and row.link is not None and not row.link.estimate.missing \
        and measure(row.entry.claim.sides[0].metric).noun == POINTS


def _ends(link: Link) -> tuple[float, float, float]:
    """Mean, low and high as printed; the ends are the mean where there is no interval."""
    estimate = link.estimate
    mean = estimate.scale * float(estimate.mean)
    low, high = (estimate.scale * end for end in (estimate.low, estimate.high))
    return (mean, mean, mean) if math.isnan(low) else (mean, low, high)


def _frame(axes: Axes, found: Sequence[Row], height: float) -> None:
    """The axis takes in all means and minima, and as much again of intervals and papers."""
    drawn = [row for row in found if _in_points(row) and row.link and row.entry]
    inner = [0.0] + [value for row in drawn if row.link and row.entry for value in (
        _ends(row.link)[0], row.entry.claim.minimum)]
    reach = max(max(inner) - min(inner), 2.0)
    outer = [end for row in drawn if row.link for end in (*_ends(row.link)[1:], row.published)
             if not math.isnan(end)]
    low = max(min([*inner, *outer]), min(inner) - reach)
    high = min(max([*inner, *outer]), max(inner) + reach)
    room = 0.05 * (high - low)
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=7)
    axes.set_xlabel("effect, positive as claimed (points; slopes: points per doubling)")
    f.grid_lines(axes, "x")
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)


def _label(axes: Axes, row: Row, top: float) -> None:
    """The statement, left of the panel; a paper's name above a rule."""
    place = top + row.height / 2 + (0.05 if row.bold else 0.0)
    axes.annotate("\n".join(row.lines), (0, place), (-LABEL * 72, 0), va="center",
                  xycoords=("axes fraction", "data"), textcoords="offset points",
                  annotation_clip=False, fontsize=8 if row.bold else f.SMALL + 0.3,
                  fontweight="bold" if row.bold else "normal", linespacing=1.15,
                  color=MUTED if row.link and len(row.entry.links if row.entry else ()) > 1
                  else INK)


def _effect(axes: Axes, row: Row, y: float) -> None:
    """Interval, mean, the smallest effect that matters and the published one."""
    if not _in_points(row) or row.link is None or row.entry is None:
        return
    mark = VERDICTS[row.entry.verdict]
    mean, low, high = _ends(row.link)
    least, (left, right) = row.entry.claim.minimum, axes.get_xlim()
    axes.plot([least, least], [y - 0.07, y + 0.07], color=MUTED, linewidth=0.8, zorder=2)
    axes.plot([max(low, left), min(high, right)], [y, y], color=mark.color, linewidth=1.4,
              solid_capstyle="butt", zorder=3)
    for end, at, marker in ((low < left, left, 4), (high > right, right, 5)):
        if end:  # caretleft, caretright: the interval goes on
            axes.plot([at], [y], marker=marker, markersize=4.5, color=mark.color, clip_on=False,
                      markeredgewidth=0, zorder=4)
    if left <= row.published <= right:
        axes.plot([row.published], [y], marker="D", markersize=4, markeredgewidth=0.9,
                  markeredgecolor=INK, markerfacecolor=PAPER, linestyle="none", zorder=4)
    axes.plot([mean], [y], marker=mark.marker, markersize=5.6, markeredgewidth=0.5,
              color=mark.color, markeredgecolor=PAPER, linestyle="none", zorder=5)


def _head(figure: Figure, sheet: ClaimSheet, left: float) -> None:
    """Title, and what colours and shapes mean."""
    from matplotlib.lines import Line2D

    height = figure.get_size_inches()[1]
    figure.text(f.MARGIN / f.WIDTH, 1 - 0.10 / height, "The papers' claims, tested here",
                fontsize=9, fontweight="bold", va="top")
    x, y = f.MARGIN, 1 - 0.44 / height
    keys = [(f"{name} ({sheet.count(name)})", mark.color, mark.marker, mark.color)
            for name, mark in VERDICTS.items()]
    keys += [("published", INK, "D", PAPER), ("smallest effect that matters", MUTED, "|", MUTED)]
    for text, edge, marker, face in keys:
        figure.add_artist(Line2D([(x + 0.05) / f.WIDTH], [y], marker=marker, markersize=5.2,
                                 linestyle="none", markeredgecolor=edge, markerfacecolor=face))
        figure.text((x + 0.15) / f.WIDTH, y, text, fontsize=f.NORMAL, va="center_baseline")
        x += 0.15 + f.text_width(text) + 0.2


def _caption(sheet: ClaimSheet) -> str:
    tested = [entry for entry in sheet.entries if entry.links]
    counts = sorted({link.estimate.n for entry in tested for link in entry.links})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    gone = len(sheet.entries) - len(tested)
    data = "; ".join(dict.fromkeys(f"{entry.data}, scale {entry.scale}" for entry in tested))
    return (f"Marks: mean difference over seeds ({n}); bars: {sheet.level:.0%} t interval of the "
            "pairs, not corrected, none at n = 1; an arrow: it goes on. Verdicts are corrected "
            "over the claims of one paper (Holm). Published effects are of the papers' own data "
            f"and scale. {f'Not run and not drawn: {gone} claims. ' if gone else ''}Data: {data}.")
