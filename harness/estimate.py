"""What a plan will cost: time from step times measured in the store, disk from artifacts there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .plan import Plan
from .stages import Stage, canonical
from .store import Store

SAMPLES = 40  # artifacts looked at per kind: enough for a median, milliseconds to read


@dataclass(frozen=True)
class Price:
    """Seconds of work, seconds of wall time on so many workers, bytes; None where unmeasured."""

    work_seconds: float | None
    wall_seconds: float | None
    disk_bytes: int | None
    measured: int


def price(plan: Plan, store: Store, workers: int) -> Price:
    """Estimate `plan.todo` from artifacts of the same store.

    A pretraining's time scales with the images it sees; stages of a kind that the store has none
    of cannot be priced, and then nothing is claimed.
    """
    rates = Rates(store)
    seconds = {stage.key: rates.seconds(stage) for stage in plan.todo}
    sizes = [rates.bytes(stage.kind) for stage in plan.todo]
    known = [value for value in seconds.values() if value is not None]
    if len(known) < len(seconds):
        return Price(None, None, None, rates.count)
    work = sum(known)
    wall = max(work / workers, _longest(plan.todo, seconds)) if known else 0.0
    disk = int(sum(size for size in sizes if size is not None))
    return Price(work, wall, disk, rates.count)


def _longest(stages: Iterable[Stage], seconds: Mapping[str, float | None]) -> float:
    """The longest chain of dependent stages: more workers cannot make it shorter."""
    finish: dict[str, float] = {}
    for stage in stages:
        start = max((finish.get(p.key, 0.0) for p in stage.inputs.values()), default=0.0)
        finish[stage.key] = start + (seconds[stage.key] or 0.0)
    return max(finish.values(), default=0.0)


class Rates:
    """Medians over a sample of the store's artifacts."""

    def __init__(self, store: Store) -> None:
        self.count = 0
        self._memory: dict[tuple[str, ...], list[float]] = {}
        self._time: dict[tuple[str, ...], list[float]] = {}
        self._size: dict[str, list[int]] = {}
        for kind in ("pretrain", "cluster", "features", "evaluate"):
            folders = sorted((store.root / kind).glob("??/*"))
            for folder in folders[::max(1, len(folders) // SAMPLES)]:
                self._read(kind, folder)

    def _read(self, kind: str, folder: Path) -> None:
        try:
            params = json.loads((folder / "stage.json").read_text())["params"]
            metrics = json.loads((folder / "metrics.json").read_text())
            record = json.loads((folder / "record.json").read_text())
            spent = record["stage_seconds"]
        except (OSError, ValueError, KeyError):
            return
        self.count += 1
        images = metrics.get("images_seen") or 0
        for name in _names(kind, params):
            self._time.setdefault(name, []).append(spent / images if images else spent)
            if record.get("peak_memory_mb"):
                self._memory.setdefault(name, []).append(record["peak_memory_mb"])
        self._size.setdefault(kind, []).append(sum(f.stat().st_size for f in folder.iterdir()))

    def seconds(self, stage: Stage) -> float | None:
        """By the most similar artifacts: the same method, else the same network, else the kind."""
        images = _images(stage)
        for name in _names(stage.kind, stage.params):
            if name in self._time:
                return median(self._time[name]) * (images or 1)
        return None

    def memory(self, stage: Stage) -> float | None:
        """Peak memory in MB of the device, the largest of the most similar artifacts."""
        for name in _names(stage.kind, stage.params):
            if name in self._memory:
                return max(self._memory[name])
        return None

    def bytes(self, kind: str) -> float | None:
        """The median size of an artifact of a kind."""
        return median(self._size[kind]) if kind in self._size else None


def _names(kind: str, params: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """From most to least similar: what times are filed under."""
    if kind == "evaluate":
        return [(kind, params["evaluation"])]
    if kind != "pretrain":
        return [(kind,)]
    if "training" not in params:
        return [(kind, "untrained")]
    # canonical: a stage that was read back has its keys in another order than a planned one
    network = canonical([params["backbone"], params["image_size"],
                         params["training"]["precision"], params["training"]["threads"]])
    return [(kind, params["method"], network), (kind, "trained", network)]


def _images(stage: Stage) -> float:
    if "training" not in stage.params:
        return 0
    images = float(stage.params["data"]["images"]) * float(stage.params["training"]["epochs"])
    if "subset" in stage.params:  # experts share the images; an even share is the best guess
        images /= float(stage.inputs["groups"].params["k"])
    return images
