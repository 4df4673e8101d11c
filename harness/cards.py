"""Cards of the data that a study was trained on, kept in the store beside the artifacts.

    <results>/store/cards/<fingerprint>.json    what datasets.card measures
    <results>/store/cards/<fingerprint>.png     the same as a picture

One for each data set, whatever was trained on it: records name it by `data_fingerprint`. They are
in no key, are made when a sweep has run, and are made again if they are deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import Failure
from .store import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from .plan import Plan

LIMIT = 4000  # images looked at in each split: a card of photos takes 0.3 s, of CIFAR-10 1 s


@dataclass(frozen=True)
class Stored:
    """A card, and its picture if there is one."""

    card: Mapping[str, Any]
    picture: Path | None


def cards(results: Path) -> dict[str, Stored]:
    """Every card in the store of `results`, by the fingerprint of its data set."""
    found = {}
    for path in sorted((results / "store" / "cards").glob("*.json")):
        picture = path.with_suffix(".png")
        found[path.stem] = Stored(read_json(path), picture if picture.exists() else None)
    return found


def write(plan: Plan, results: Path) -> list[str]:
    """Make the cards that the plan's trained-on data sets lack; returns a line for each failure.

    Nothing depends on them, so that a card that cannot be made stops nothing.
    """
    from datasets.card import REVISION

    folder, problems = results / "store" / "cards", []
    for fingerprint, resolved in trained_on(plan).items():
        path = folder / f"{fingerprint}.json"
        try:
            if path.with_suffix(".png").exists() and read_json(path)["revision"] == REVISION:
                continue
        except (Failure, FileNotFoundError, KeyError):
            pass  # made again
        try:
            _make(plan, resolved, path)
        except (ValueError, OSError) as error:
            problems.append(f"no card of data {fingerprint[:12]}: {error}")
    return problems


def trained_on(plan: Plan) -> dict[str, dict[str, Any]]:
    """The resolved data sets of the plan's pretraining stages, by fingerprint."""
    data = (stage.params.get("data") for stage in plan.stages if stage.kind == "pretrain")
    return {spec["fingerprint"]: spec for spec in data if spec}


def _make(plan: Plan, resolved: Mapping[str, Any], path: Path) -> None:
    import datasets
    from datasets.card import card, look, of

    from .card_picture import Panel, draw

    place = _place(plan, resolved)
    other = datasets.foreign(resolved)
    foreign_path = _place(plan, other) if other else None
    if datasets.SOURCES[resolved["source"]].huge:
        write_json(path, card(resolved, place))
        return
    train = look(resolved, place, foreign_path=foreign_path, limit=LIMIT)
    told = of(train, resolved, place, held=_targets(plan), limit=LIMIT)
    write_atomic(path.with_suffix(".png"), draw([Panel(resolved["source"], told, train)]))
    write_json(path, told)


def _targets(plan: Plan) -> dict[str, Any]:
    """The evaluation sets of the study beside its own, by name."""
    from datasets.card import Held

    found = {}
    for cell in plan.cells:
        target = plan.study.evaluations[cell.evaluation].target
        stage = cell.features or cell.stage
        if target and target not in found and "data" in stage.params:
            data = stage.params["data"]
            found[target] = Held(data, "test", _place(plan, data))
    return found


def _place(plan: Plan, resolved: Mapping[str, Any]) -> str | None:
    """Where the files of a data set lie on this machine."""
    own = plan.places.get(resolved.get("fingerprint", ""))
    if own is None and resolved["source"] == plan.study.labelled["source"]:
        own = plan.study.labelled.get("path")
    return str(Path(own).expanduser()) if own else None
