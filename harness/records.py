"""Records: what the store knows of every cell of a study, as one table.

`records.parquet` is a cache: it can be deleted and is made again from `study.json` and the store.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import Failure
from .evaluation import evaluation
from .evaluation.shots import shot_accuracies
from .store import Store, read_json, write_atomic

if TYPE_CHECKING:
    import pandas as pd


def collect(folder: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read every record of the study in `folder` and write its `records.parquet`.

    Returns the table (one row per cell and metric) and, by key, what is damaged; damaged and
    missing cells have no row.
    """
    import pandas as pd

    from .measured import COLUMNS

    study = json.loads((folder / "study.json").read_text())
    reader = _Reader(Store(folder.parent / "store"), study)
    rows = list(reader.rows())
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["level"] = frame["level"].astype(float)
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    write_atomic(folder / "records.parquet", buffer.getvalue())
    return frame, reader.damaged


class _Reader:
    """Reads each artifact once: encoders and feature sets are shared by many cells."""

    def __init__(self, store: Store, study: Mapping[str, Any]) -> None:
        self.store, self.study = store, study
        self.methods = {method["id"]: method for method in study["methods"]}
        self.conditions = {condition["id"]: condition for condition in study["conditions"]}
        self.damaged: dict[str, str] = {}
        self._cost: dict[str, dict[str, Any]] = {}
        self._cells: dict[str, dict[str, Any]] = {}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row per cell and metric of what is in the store."""
        for cell in self.study["cells"]:
            if cell["key"] in self.damaged or not self.store.has("evaluate", cell["key"]):
                continue
            try:
                yield from self._cell_rows(cell)
            except (Failure, FileNotFoundError) as error:
                self.damaged[cell["key"]] = str(error)

    def _cell_rows(self, cell: Mapping[str, Any]) -> list[dict[str, Any]]:
        measured = self._evaluation(cell["key"])
        method, condition = self.methods[cell["method"]], self.conditions[cell["condition"]]
        metrics, record = measured["metrics"], measured["record"]
        shared = {
            "grid": self.study["grid"], "scale": self.study["scale"], "method": method["id"],
            "method_label": method["label"], "reference": method["reference"],
            "condition": condition["id"], "condition_label": condition["label"],
            "level": math.nan if condition["level"] is None else condition["level"],
            "seed": cell["seed"], "evaluation": cell["evaluation"],
            "evaluate_key": cell["key"], "features_key": cell["features_key"],
            "pretrain_key": cell["pretrain_key"], "protocol": measured["protocol"],
            "n_test": metrics["n_test"], "git_commit": record["git_commit"],
            "code": record["code"], "hardware": record["hardware"],
            "torch": record["versions"].get("torch", ""), "created": record["created"],
            **self._encoder(cell["pretrain_key"]),
        }
        values = {name: metrics[name] for name in measured["names"]}
        counts = self.study["shots"].get(str(cell["seed"]))
        if counts and "@" not in cell["evaluation"] and "per_class" in metrics:
            values |= shot_accuracies(metrics["per_class"], counts)
        return [{**shared, "metric": name, "value": value} for name, value in values.items()]

    def _evaluation(self, key: str) -> dict[str, Any]:
        """Metrics, provenance and protocol of an evaluation, checked against its checksums."""
        if key not in self._cells:
            self.store.verify("evaluate", key)
            folder = self.store.folder("evaluate", key)
            stage = read_json(folder / "stage.json")
            self._cells[key] = {"metrics": read_json(folder / "metrics.json"),
                                "record": read_json(folder / "record.json"),
                                "protocol": _protocol(stage),
                                "names": _names(stage)}
        return self._cells[key]

    def _encoder(self, key: str) -> dict[str, Any]:
        """What an encoder has cost, all of its ancestry counted, and how it was trained."""
        if key not in self._cost:
            self._cost[key] = self._read_encoder(key)
        return self._cost[key]

    def _read_encoder(self, key: str) -> dict[str, Any]:
        images = seconds = 0.0
        for kind, ancestor in self.study["ancestry"][key]:
            folder = self.store.folder(kind, ancestor)
            metrics, record = read_json(folder / "metrics.json"), read_json(folder / "record.json")
            images += metrics.get("images_seen", 0)
            seconds += record.get("seconds", record.get("stage_seconds", 0.0))
        folder = self.store.folder("pretrain", key)
        params = read_json(folder / "stage.json")["params"]
        training = params.get("training", {})
        return {
            "images_seen": int(images), "device_seconds": seconds,
            "images_per_second": read_json(folder / "record.json").get("images_per_second")
            or math.nan,
            "threads": int(training.get("threads", self.study["training"]["threads"])),
            "precision": training.get("precision", self.study["training"]["precision"]),
            "data_fingerprint": params.get("data", {}).get("fingerprint", ""),
        }


def _names(stage: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics that records keep of an evaluation: those that it declares to return."""
    params = stage["params"]
    return evaluation(params["evaluation"]).returns(params.get("metric", "top1"))


def _protocol(stage: Mapping[str, Any]) -> str:
    """A hash of how it was evaluated: equal for all encoders scored alike."""
    from .stages import digest

    params = {name: value for name, value in stage["params"].items() if name != "seed"}
    return digest([stage["revision"], params])[:12]
