"""The card of a dataset: what is in it, how skewed and repetitive, what the test set shares.

    python -m harness.data dataset=photos
    python -m harness.data dataset=photos size=684 long_tail.imbalance=100 correlation.repeats=8
    python -m harness.data dataset=npz path=FILE.npz size=2000 diversity.classes=5
    python -m harness.data dataset=folder path=FOLDER image_size=32 options.on_corrupt=skip

Prints the card and draws examples of every class, near duplicates side by side, and images drawn at
random, to a PNG: png=FILE, by default <results>/cards/<dataset>-<fingerprint>.png; json=FILE writes
the card as well. Words after `vs` are a variant of what stands before the first `vs`, and are drawn
beside it, so that a difference can be seen (name=TEXT is its title):

    python -m harness.data dataset=photos size=380 name=curated vs long_tail.imbalance=50 \\
        vs correlation.repeats=8 vs mixture.share=0.5 mixture.source=digits png=sheet.png

pack=true decodes the source once, pack=shards writes it as tar files: add -h to either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import data_pack
from .arguments import RESULTS, wants_help
from .errors import Failure, Problems, UserError, door, unknown

if TYPE_CHECKING:
    from .card_picture import Panel

FIELDS = ("dataset", "path", "image_size", "size", "seed")
OUTPUTS = ("png", "json", "results", "name")
ROWS = 24  # classes printed from each end of a long list


def main(arguments: list[str]) -> int:
    """Print and draw one card, or several beside each other; with pack=..., see data_pack."""
    if data_pack.wanted(arguments):
        return data_pack.main(arguments)
    if wants_help(arguments):
        print(__doc__)
        return 0
    variants = [read(words) for words in split(arguments)]
    outputs = {key: value for _, given in variants for key, value in given.items()}
    resolved = checked([spec for spec, _ in variants])
    panels = [panel(spec, data, given.get("name"))
              for (spec, given), data in zip(variants, resolved, strict=True)]
    for shown in panels:
        for line in lines(shown.card):
            print(line)
        print()
    told: Any = [shown.card for shown in panels]
    from .card_picture import draw

    names = "-".join(card["fingerprint"][:12] for card in told[:4])
    picture = Path(outputs.get("png") or Path(outputs.get("results", RESULTS), "cards",
                                              f"{told[0]['source']}-{names}.png"))
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(draw(panels))
        if "json" in outputs:
            told = told if len(told) > 1 else told[0]
            Path(outputs["json"]).write_text(json.dumps(told, indent=1) + "\n")
    except (OSError, ValueError) as error:
        raise Failure(f"the card cannot be written: {error}; set png=FILE.png") from None
    print(f"examples: {picture}")
    return 0


def split(arguments: list[str]) -> list[list[str]]:
    """The words of each variant: those before the first `vs`, and with each later group."""
    groups: list[list[str]] = [[]]
    for word in arguments:
        if word == "vs":
            groups.append([])
        else:
            groups[-1].append(word)
    common = [word for word in groups[0] if not word.startswith("name=")]
    return [groups[0], *(common + group for group in groups[1:])]


def checked(specs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every dataset resolved; Problems with the mistakes of all of them, before work starts."""
    import datasets

    found, problems = [], []
    for spec in specs:
        try:
            found.append(datasets.resolve(spec))
        except datasets.DatasetError as error:
            problems += error.problems
    problems += [f"source '{data['source']}' is only read in order: there is no card of it (python "
                 "-m harness.list datasets tells what is declared)" for data in found
                 if datasets.SOURCES[data["source"]].huge]
    if problems:
        raise Problems(dict.fromkeys(problems))
    return found


def panel(spec: Mapping[str, Any], resolved: Mapping[str, Any], name: str | None) -> Panel:
    """The card of a dataset with the images that it was made from."""
    import datasets
    from datasets.card import look, of

    from .card_picture import Panel

    path = spec.get("path")
    beside = (datasets.foreign(spec) or {}).get("path")
    try:
        datasets.prepare(spec)
        sample = look(resolved, path, foreign_path=beside)
        told = of(sample, resolved, path)
    except datasets.DatasetError as error:
        raise Problems(error.problems) from None
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    return Panel(name or " + ".join(resolved["controls"]).replace("_", " ") or resolved["source"],
                 told, sample)


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
            spec["controls"].setdefault(group, {})[name] = (
                value if name in ("path", "file") else _value(value))
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
    from .card_picture import described

    images, distinct = card["images"], card["distinct"]
    yield described(card)
    yield f"fingerprint   {card['fingerprint']}"
    held = ", ".join(f"{name} {count}" for name, count in images.items())
    yield f"images        {held}; {card['image_size']}x{card['image_size']} pixels"
    yield (f"skew          imbalance {card['imbalance']:.4g}, Gini {card['gini']:.3f}, "
           f"{card['classes_present']} of {len(card['class_counts'])} classes")
    yield (f"distinct      {distinct['by_construction']} images before copying; of "
           f"{distinct['compared']} compared {distinct['exact']} differ in bytes and "
           f"{distinct['near']} in more than {distinct['bits']} of 64 bits of a perceptual hash: "
           f"about {distinct['effective']} in all")
    if card["unlabelled"]:
        yield f"unlabelled    {card['unlabelled']} images, of another source"
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


run = door(main)

if __name__ == "__main__":
    run()
