"""What lies beside the records of a study: accuracies by class, how stages were made, cards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import UserError
from .measured import Measured

Place = tuple[str, str, int, str]  # method, condition, seed, evaluation


@dataclass(frozen=True)
class Classes:
    """Accuracies (classes,) float in [0, 1] by cell, and the pretraining images of each class.

    `counts` has, by seed, those of the most imbalanced condition of the study; empty where all
    conditions are balanced.
    """

    accuracy: Mapping[Place, npt.NDArray[np.float64]]
    counts: Mapping[int, npt.NDArray[np.int64]]


def classes(measured: Measured) -> Classes:
    """The accuracies on every class of the study's cells; empty where none were collected.

    Raises UserError naming a file that is damaged.
    """
    folder = measured.folder
    path = folder / "per_class.parquet" if folder else None
    if folder is None or path is None or not path.exists():
        return Classes({}, {})
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(path, page_checksum_verification=True)
        columns = [table[name].to_pylist() for name in (
            "method", "condition", "seed", "evaluation", "evaluate_key", "accuracy")]
    except Exception as error:  # pyarrow raises several unrelated classes on a damaged file
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is not readable ({first}); delete it and records.parquet, they "
                        "are made again") from None
    cells = measured.study.cells
    found = {}
    for method, condition, seed, evaluation, key, accuracy in zip(*columns, strict=True):
        place = (method, condition, int(seed), evaluation)
        if not cells or cells.get(place) == key:
            found[place] = np.asarray(accuracy, dtype=np.float64)
    shots = json.loads((folder / "study.json").read_text(encoding="utf-8")).get("shots") or {}
    return Classes(found, {int(seed): np.asarray(counts) for seed, counts in shots.items()
                           if counts})


@dataclass(frozen=True)
class Runs:
    """How the stages of a study were made; see `records`. Empty where that was not collected."""

    stages: Mapping[str, list[Any]]
    params: list[Mapping[str, Any]]
    versions: list[Mapping[str, str]]
    commands: list[str]


def runs(measured: Measured) -> Runs:
    """runs.json of a study; UserError where it is damaged."""
    path = measured.folder / "runs.json" if measured.folder else None
    if path is None or not path.exists():
        return Runs({}, [], [], [])
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Runs(data["stages"], data["params"], data["versions"], data["commands"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and records.parquet, they are "
                        "made again") from None


@dataclass(frozen=True)
class Card:
    """A data set's card and, if there is one, its picture (PNG)."""

    fingerprint: str
    card: Mapping[str, Any]
    picture: bytes


def cards(measured: Measured) -> list[Card]:
    """The cards of the data that the study's encoders were trained on, in order of appearance.

    From the study's own folder (cards/), or from the store beside it.
    """
    if measured.folder is None:
        return []
    found = []
    for fingerprint in dict.fromkeys(measured.records["data_fingerprint"].astype(str)):
        if card := _card(measured.folder, fingerprint):
            found.append(card)
    return found


def _card(folder: Path, fingerprint: str) -> Card | None:
    for place in (folder / "cards", folder.parent / "store" / "cards"):
        path = place / f"{fingerprint}.json"
        if fingerprint and path.is_file():
            try:
                card = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise UserError(f"{path} is damaged ({error}); delete it, the next sweep makes it "
                                "again") from None
            picture = path.with_suffix(".png")
            return Card(fingerprint, card, picture.read_bytes() if picture.is_file() else b"")
    return None
