"""The card of a dataset: what is in it, how skewed and repetitive, what the test set shares.

    python -m harness.data dataset=photos
    python -m harness.data dataset=photos size=684 long_tail.imbalance=100 correlation.repeats=8
    python -m harness.data dataset=npz path=FILE.npz size=2000 diversity.classes=5
    python -m harness.data dataset=folder path=FOLDER image_size=32 options.on_corrupt=skip

Prints the card and draws examples of every class, copies side by side, to a PNG: png=FILE, by
default <results>/cards/<dataset>-<fingerprint>.png; json=FILE writes the card as well.
pack=true decodes the source once, pack=shards writes it as tar files: add -h to either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import data_pack
from .arguments import RESULTS, wants_help
from .errors import Failure, Problems, UserError, door, unknown

if TYPE_CHECKING:
    from PIL import ImageDraw

    from datasets import Images, Selection

FIELDS = ("dataset", "path", "image_size", "size", "seed")
OUTPUTS = ("png", "json", "results")
ROWS, COLUMNS, CELL, LABEL, BAR = 24, 16, 48, 132, 120  # classes, examples, pixels


def main(arguments: list[str]) -> int:
    """Print and draw one card; with pack=..., see data_pack."""
    if data_pack.wanted(arguments):
        return data_pack.main(arguments)
    if wants_help(arguments):
        print(__doc__)
        return 0
    spec, outputs = read(arguments)
    import datasets
    from datasets.card import card

    path = spec.get("path")
    try:
        resolved = datasets.resolve(spec)
        datasets.prepare(spec)
        told = card(resolved, path)
        train = datasets.build(resolved, "train", path)
        chosen = datasets.select(resolved, "train", path)
    except datasets.DatasetError as error:
        raise Problems(error.problems) from None
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    for line in lines(told):
        print(line)
    name = f"{told['source']}-{told['fingerprint'][:12]}.png"
    picture = Path(outputs.get("png") or Path(outputs.get("results", RESULTS), "cards", name))
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        sheet(train, chosen, picture)
        if "json" in outputs:
            Path(outputs["json"]).write_text(json.dumps(told, indent=1) + "\n")
    except (OSError, ValueError) as error:
        raise Failure(f"the card cannot be written: {error}; set png=FILE.png") from None
    print(f"examples: {picture}")
    return 0


def read(arguments: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The dataset specification and the output files of a command line; UserError if unclear."""
    from datasets import CONTROLS

    spec: dict[str, Any] = {"controls": {}, "options": {}}
    outputs: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not value:
            raise UserError(f"harness.data: '{argument}' has no value; write {key}=VALUE")
        # the longer names that messages of the data layer use mean the same here
        key = key.removeprefix("data.").removeprefix("controls.")
        group, dot, name = key.partition(".")
        if key in FIELDS:
            spec["source" if key == "dataset" else key] = value if key == "path" else _value(value)
        elif key in OUTPUTS:
            outputs[key] = value
        elif dot and group == "options":
            spec["options"][name] = _value(value)
        elif dot and group in CONTROLS:
            spec["controls"].setdefault(group, {})[name] = _value(value)
        else:
            known = [*FIELDS, *OUTPUTS, "options.NAME", *(
                f"{control}.{parameter}" for control, entry in CONTROLS.items()
                for parameter in entry.parameters)]
            raise unknown("argument", key, known, "harness.data")
    if "source" not in spec:
        from datasets import SOURCES
        names = ", ".join(sorted(SOURCES))
        raise UserError(f"which dataset? Give dataset=NAME. Available: {names}")
    return spec, outputs


def _value(text: str) -> Any:
    """A number, true, false or null as such, anything else as text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def lines(card: Mapping[str, Any]) -> Iterator[str]:
    """The card as text, one fact a line, then a bar per class."""
    images, distinct = card["images"], card["distinct"]
    controls = ", ".join(f"{name}({', '.join(f'{k}={v}' for k, v in values.items())})"
                         for name, values in card["controls"].items())
    yield f"{card['source']}  {controls or 'no control'}  seed {card['seed']}"
    yield f"fingerprint   {card['fingerprint']}"
    yield (f"images        train {images['train']}, validation {images['validation']}, test "
           f"{images['test']}; {card['image_size']}x{card['image_size']} pixels")
    yield (f"skew          imbalance {card['imbalance']:.4g}, Gini {card['gini']:.3f}, "
           f"{card['classes_present']} of {len(card['class_counts'])} classes")
    yield (f"distinct      {distinct['by_construction']} images before copying; "
           f"{distinct['exact']} differ in bytes, {distinct['effective']} differ at a correlation "
           f"of {distinct['threshold']} ({distinct['compared']} compared)")
    if card["origins"]:
        yield f"origins       {card['origins']} photographs, tracks or files"
    for split, shared in card["overlap"].items():
        yield (f"{split + ' in train':13} {shared['exact']} exact, {shared['near']} near copies of "
               f"{shared['images']} (compared with {shared['compared_with']})")
    yield from _bars(card["class_counts"])


def _bars(counts: Mapping[str, int]) -> Iterator[str]:
    """Classes from large to small with a bar each; the middle of a long list is left out."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    width = max(map(len, counts), default=0)
    top = max(counts.values(), default=1) or 1
    for position, (name, count) in enumerate(ordered):
        if len(ordered) > 2 * ROWS and position == ROWS:
            yield f"  ... {len(ordered) - 2 * ROWS} classes more ..."
        if len(ordered) <= 2 * ROWS or position < ROWS or position >= len(ordered) - ROWS:
            yield f"  {name:{width}} {count:7} {'#' * round(40 * count / top)}".rstrip()


def sheet(train: Images, chosen: Selection, path: Path) -> None:
    """Draw examples by class, largest first, near duplicates side by side, with a bar of counts."""
    import numpy as np
    from PIL import Image, ImageDraw

    counts = np.bincount(train.labels, minlength=len(train.class_names))
    order = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]][:ROWS]
    canvas = Image.new("RGB", (LABEL + BAR + COLUMNS * CELL, max(len(order), 1) * CELL), "white")
    draw = ImageDraw.Draw(canvas)
    for row, label in enumerate(order):
        members = np.flatnonzero(train.labels == label)
        members = members[np.lexsort((chosen.copy[members], chosen.index[members]))]
        _label(draw, row, train.class_names[label], int(counts[label]), int(counts.max()))
        for column, member in enumerate(members[:COLUMNS]):
            image = Image.fromarray(train.pixels[member]).resize((CELL - 2, CELL - 2))
            canvas.paste(image, (LABEL + BAR + column * CELL, row * CELL + 1))
    canvas.save(path)


def _label(draw: ImageDraw.ImageDraw, row: int, name: str, count: int, largest: int) -> None:
    """Name, count and bar of a class, to the left of its examples."""
    top = row * CELL
    draw.text((4, top + CELL // 2 - 6), name[:20], fill="black")
    length = max(1, round((BAR - 50) * count / largest))
    draw.rectangle((LABEL, top + 16, LABEL + length, top + CELL - 16), fill=(0, 114, 178))
    draw.text((LABEL + length + 4, top + CELL // 2 - 6), str(count), fill="black")


run = door(main)

if __name__ == "__main__":
    run()
