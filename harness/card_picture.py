"""Cards as a picture: numbers, a bar and examples of every class, and what a learner sees."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .palette import GRID, INK, MUTED, PAPER

if TYPE_CHECKING:
    from datasets._build import Sample

CELL, GAP, MARGIN = 48, 2, 24  # pixels
NAME, BAR, EXAMPLES = 120, 180, 8  # width of names and bars, examples of a class
WIDTH = NAME + BAR + EXAMPLES * (CELL + GAP)
ACROSS = 4  # panels in a row
ROWS = 20  # classes shown; of more, the largest and the smallest
DRAW_ROWS = 4  # of the images drawn at random
HEAD, TILE = 100, 58  # height of title and of a row of numbers
OWN, FOREIGN, COPY, DIFFERENT = "#0072b2", "#8a6a42", "#d55e00", "#a3324a"  # as in `palette`
LEGEND = (("bar: images of the class", OWN), ("images of another source, without a label", FOREIGN),
          ("line below: the same image and its near duplicates", COPY),
          ("number: other than the first card's", DIFFERENT))


@dataclass(frozen=True)
class Panel:
    """One card, the images it was made from, and what it is called."""

    title: str
    card: Mapping[str, Any]
    sample: Sample


def draw(panels: Sequence[Panel]) -> bytes:
    """PNG of panels side by side, at most 4 to a row, classes in one order and bars to one scale.

    The classes are ordered by the first panel's counts, so that a difference is one of the data.
    """
    counts = [list(panel.card["class_counts"].values()) for panel in panels]
    shown = _shown(counts[0] if len(set(map(len, counts))) == 1 else None)
    foreign = any(panel.card["unlabelled"] for panel in panels)
    top = max(max([*own, panel.card["unlabelled"]]) for own, panel in zip(counts, panels,
                                                                        strict=True))
    rows = max(len(_rows(panel, shown)) for panel in panels) + foreign
    height = HEAD + 2 * TILE + rows * (CELL + GAP) + 44 + DRAW_ROWS * (CELL + GAP)
    deep = -(-len(panels) // ACROSS)
    columns = -(-len(panels) // deep)
    canvas = Image.new("RGB", (columns * (WIDTH + MARGIN) + MARGIN,
                               deep * (height + MARGIN) + MARGIN + 30), PAPER)
    for number, panel in enumerate(panels):
        left = MARGIN + number % columns * (WIDTH + MARGIN)
        above = MARGIN + number // columns * (height + MARGIN)
        drawing = _Drawing(canvas, left, above)
        drawing.numbers(panel.card, panels[0].card)
        drawing.panel(panel, _rows(panel, shown), top, foreign, rows)
    _legend(canvas, (True, foreign, any("correlation" in panel.card["controls"]
                                        for panel in panels), len(panels) > 1))
    out = io.BytesIO()
    canvas.save(out, "PNG", compress_level=3)  # photographs shrink no more at 6, in 3x the time
    return out.getvalue()


def _shown(counts: Sequence[int] | None) -> list[int] | None:
    """The classes to show, from large to small; None: each panel its own."""
    if counts is None:
        return None
    order = sorted(range(len(counts)), key=lambda label: -counts[label])
    half = ROWS // 2
    return order if len(order) <= ROWS else order[:half] + order[-half:]


def _rows(panel: Panel, shown: list[int] | None) -> list[int]:
    return shown if shown is not None else _shown(list(panel.card["class_counts"].values())) or []


def _legend(canvas: Image.Image, there: Sequence[bool]) -> None:
    """What the colours mean, at the foot, for those that occur."""
    pen, x, y = ImageDraw.Draw(canvas), MARGIN, canvas.height - 34
    for (text, colour), shown in zip(LEGEND, there, strict=True):
        if shown:
            pen.rectangle((x, y + 4, x + 16, y + 12), fill=colour)
            pen.text((x + 24, y), text, fill=MUTED, font=_font(14))
            x += 60 + int(pen.textlength(text, font=_font(14)))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: the picture is the same on every machine."""
    return ImageFont.load_default(size=size)


class _Drawing:
    """One panel on the canvas; coordinates are its own, in pixels."""

    def __init__(self, canvas: Image.Image, left: int, top: int) -> None:
        self.canvas, self.left, self.top = canvas, left, top
        self.pen = ImageDraw.Draw(canvas)

    def panel(self, panel: Panel, classes: list[int], largest: int, foreign: bool,
              rows: int) -> None:
        """Title, one row a class, images drawn at random."""
        self.title(panel)
        y = HEAD + 2 * TILE
        names, counts = zip(*panel.card["class_counts"].items(), strict=True)
        for place, label in enumerate(classes):
            members = _members(panel, label)
            self.row(y + place * (CELL + GAP), names[label], counts[label], largest, members,
                     panel, OWN)
        if foreign:
            members = np.flatnonzero(panel.sample.images.labels < 0)
            self.row(y + len(classes) * (CELL + GAP), "no label", panel.card["unlabelled"],
                     largest, members, panel, FOREIGN)
        self.drawn(y + rows * (CELL + GAP) + 12, panel)

    def numbers(self, card: Mapping[str, Any], first: Mapping[str, Any]) -> None:
        """Two rows of numbers; those that differ from the first card's have a colour."""
        for line, (row, reference) in enumerate(zip(_numbers(card), _numbers(first), strict=True)):
            y = HEAD + line * TILE
            for column, (value, caption) in enumerate(row):
                colour = INK if value == reference[column][0] else DIFFERENT
                self.text(column * WIDTH // 3, y, value, 22, colour)
                self.text(column * WIDTH // 3, y + 27, caption, 13, MUTED)

    def title(self, panel: Panel) -> None:
        """Name, rule and the controls in words."""
        self.text(0, 0, panel.title, 26)
        self.pen.line((self.left, self.top + 38, self.left + WIDTH - GAP, self.top + 38),
                      fill=GRID, width=2)
        lines = textwrap.wrap(described(panel.card), 92)[:2]
        for number, line in enumerate(lines):
            self.text(0, 48 + 19 * number, line, 14, MUTED)

    def row(self, y: int, name: str, count: int, largest: int, members: Any, panel: Panel,
            colour: str) -> None:
        """One class: its name, its bar, examples with copies of one image side by side."""
        self.text(0, y + 16, self.fitted(name), 14, INK if count else MUTED)
        room = BAR - 62
        length = round(room * count / largest)
        if count:
            self.pen.rectangle((self.left + NAME, self.top + y + 14, self.left + NAME
                                + max(length, 2), self.top + y + CELL - 16), fill=colour)
        self.text(NAME + max(length, 0) + 7, y + 16, f"{count:,}", 14, INK if count else MUTED)
        self.images(NAME + BAR, y, members, panel)

    def fitted(self, name: str) -> str:
        """The name, or as much of it as fits before the bar."""
        if self.pen.textlength(name, font=_font(14)) <= NAME - 8:
            return name
        while self.pen.textlength(f"{name}...", font=_font(14)) > NAME - 8:
            name = name[:-1]
        return f"{name}..."

    def images(self, x: int, y: int, members: Any, panel: Panel) -> None:
        """Examples; a line runs below those that are of one image."""
        chosen, pixels = panel.sample.chosen, panel.sample.images.pixels
        # the images with most copies first: they are what repeats
        index = chosen.index[members]
        _, group, size = np.unique(index, return_inverse=True, return_counts=True)
        order = members[np.lexsort((chosen.copy[members], index, -size[group]))][:EXAMPLES]
        for column, member in enumerate(order):
            left = x + column * (CELL + GAP)
            self.paste(left, y, pixels[member])
            same = column and chosen.index[order[column - 1]] == chosen.index[member]
            if same:
                self.pen.rectangle((self.left + left - CELL - GAP, self.top + y + CELL - 4,
                                    self.left + left + CELL - 1, self.top + y + CELL - 1),
                                   fill=COPY)

    def drawn(self, y: int, panel: Panel) -> None:
        """Images drawn at random, as in a batch."""
        self.text(0, y, "drawn at random, as a batch is", 14, MUTED)
        across = (WIDTH + GAP) // (CELL + GAP)
        pixels = panel.sample.images.pixels
        picked = np.random.default_rng(0).permutation(len(pixels))[:across * DRAW_ROWS]
        for number, member in enumerate(picked):
            self.paste(number % across * (CELL + GAP), y + 24 + number // across * (CELL + GAP),
                       pixels[member])

    def paste(self, x: int, y: int, pixels: Any) -> None:
        """One image at its cell's size."""
        image = Image.fromarray(np.asarray(pixels)).resize((CELL, CELL), Image.Resampling.BICUBIC)
        self.canvas.paste(image, (self.left + x, self.top + y))

    def text(self, x: int, y: int, text: str, size: int, colour: str = INK) -> None:
        """One line of text."""
        self.pen.text((self.left + x, self.top + y), text, fill=colour, font=_font(size))


def _members(panel: Panel, label: int) -> Any:
    """Positions of a class's images among those that the card was made from."""
    from datasets import SOURCES, multilabel

    labels = panel.sample.images.labels
    if SOURCES[panel.card["source"]].multilabel:
        return np.flatnonzero(multilabel.unpack(labels, label + 1)[:, label] == 1)
    return np.flatnonzero(labels == label)


def described(card: Mapping[str, Any]) -> str:
    """Source and controls of a card in one line; what is at its default is left out."""
    from datasets import CONTROLS

    controls = []
    for name, values in card["controls"].items():
        usual = CONTROLS[name].parameters
        told = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in values.items()
                if key in usual and value != usual[key].default and key != "options"]
        controls.append(f"{name}({', '.join(told)})" if told else name)
    return f"{card['source']}: {', '.join(controls) or 'no control'}; seed {card['seed']}"


def _numbers(card: Mapping[str, Any]) -> list[list[tuple[str, str]]]:
    """Two rows of three numbers with what they are."""
    distinct, test = card["distinct"], card["overlap"].get("test")
    labels = card["images"]["train"] - card["unlabelled"]
    return [[(f"{card['images']['train']:,}", "images"),
             (f"{card['classes_present']} of {len(card['class_counts'])}",
              f"classes, {labels:,} labelled images"),
             (f"{card['imbalance']:.3g}", "largest / smallest class")],
            [(f"{card['gini']:.2f}", "Gini of the class counts"),
             (f"{distinct['by_construction']:,}",
              f"distinct ({distinct['effective']:,} by hash)"),
             (f"{test['exact']} + {test['near'] - test['exact']}" if test else "not known",
              "test images in it: exact + near")]]
