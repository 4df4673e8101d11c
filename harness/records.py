"""Records: what the store knows of every cell of a study, as tables beside its study.json.

    records.parquet      one row per cell and metric
    per_class.parquet    one row per cell: the accuracy on every class of the study's own images
    runs.json            how every stage behind a cell was made: parameters, versions, command

All of them are caches: they can be deleted and are made again from `study.json` and the store. An
artifact is read, and checked against its checksums, when it is new or was changed since the last
time (see record_cache).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import record_file
from .artifact import distil, read_artifact
from .errors import Failure
from .evaluation.shots import RULE, long_tail_view
from .record_cache import ABSENT, Cache, digest_of, file_stamp, stamp
from .stages import canonical
from .store import Store, write_atomic

if TYPE_CHECKING:
    import pandas as pd

RECORDS, PER_CLASS, RUNS = "records.parquet", "per_class.parquet", "runs.json"


def collect(folder: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read every record of the study in `folder` and write its three files.

    Returns the table (one row per cell and metric) and, by key, what is damaged; damaged and
    missing cells have no row. 100,000 records take 10 s at first and 1 s when nothing has changed
    (benchmarks/records.py).
    """
    data = (folder / "study.json").read_bytes()
    study = json.loads(data)
    store = Store(folder.parent / "store")
    cache = Cache.open(store.root / "index" / f"{folder.name}.parquet")
    reader = _Reader(store, study, cache)
    about = {"study": hashlib.sha256(data).hexdigest(), "damaged": "{}",
             "stamps": digest_of(reader.stamps, reader.stamps)}
    if {**about, **_outputs(folder)} == {k: v for k, v in cache.about.items() if k != "revision"}:
        return record_file.read(folder / RECORDS)[0], {}
    frame, classes = reader.tables()
    record_file.write(folder / RECORDS, frame)
    _write_classes(folder / PER_CLASS, classes)
    write_atomic(folder / RUNS, (canonical(reader.runs()) + "\n").encode())
    about["damaged"] = json.dumps(reader.damaged, sort_keys=True)
    reader.write_cache({**about, **_outputs(folder)})
    return frame, reader.damaged


def _outputs(folder: Path) -> dict[str, str]:
    return {name: str(file_stamp(folder / name)) for name in (RECORDS, PER_CLASS, RUNS)}


class _Reader:
    """Reads each artifact once: encoders and feature sets are shared by many cells."""

    def __init__(self, store: Store, study: Mapping[str, Any], cache: Cache) -> None:
        self.store, self.study, self.cache = store, study, cache
        self.damaged: dict[str, str] = {}
        self._kept: dict[str, dict[str, Any]] = {}
        self._text: dict[str, str] = {}
        self._costs: dict[str, dict[str, Any]] = {}
        self.kinds = {cell["key"]: "evaluate" for cell in study["cells"]}
        for lineage in study["ancestry"].values():
            self.kinds |= {key: kind for kind, key in lineage}
        self.kinds |= {cell["features_key"]: "features" for cell in study["cells"]
                       if cell.get("features_key")}
        self.stamps: dict[str, int] = {}
        self.folders: dict[str, str] = {}
        for key, kind in self.kinds.items():
            self.stamps[key], self.folders[key] = stamp(kind, *self._places(kind, key))

    def _places(self, kind: str, key: str) -> tuple[str, ...]:
        """Where the artifact may lie: what others have shared without its arrays lies apart."""
        own = f"{self.store.root}/{kind}/{key[:2]}/{key}"
        return (own,) if kind == "evaluate" else (
            own, f"{self.store.root}/light/{kind}/{key[:2]}/{key}")

    def kept(self, key: str) -> dict[str, Any]:
        """What is kept of an artifact; raises Failure or FileNotFoundError for a bad one."""
        if key not in self._kept:
            if self.cache.stamps.get(key) == self.stamps[key] != ABSENT:
                self._text[key] = self.cache.kept()[key]
                self._kept[key] = json.loads(self._text[key])
            else:
                kind = self.kinds[key]
                found = read_artifact(self.folders[key], whole=kind == "evaluate")
                self._kept[key] = distil(kind, found)
                self._text[key] = json.dumps(self._kept[key])
        return self._kept[key]

    def tables(self) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
        """The records, and the accuracies on every class."""
        import pandas as pd

        from .measured import COLUMNS

        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        classes = []
        for cell, shared, kept, values in self._cells():
            count = len(values)
            for name, value in shared.items():
                columns[name] += [value] * count
            columns["metric"] += values
            columns["value"] += values.values()
            if kept["per_class"] is not None and "@" not in cell["evaluation"]:
                classes.append({name: cell[name] for name in ("method", "condition", "seed",
                                                              "evaluation")}
                               | {"evaluate_key": cell["key"], "accuracy": kept["per_class"]})
        frame = pd.DataFrame(columns)
        frame["level"] = frame["level"].astype(float)
        return frame, classes

    def _cells(self) -> Iterator[tuple[Mapping[str, Any], dict[str, Any], dict[str, Any],
                                       dict[str, float]]]:
        """Each cell that is in the store, what its rows share, what was kept, and its numbers."""
        methods = {method["id"]: method for method in self.study["methods"]}
        conditions = {condition["id"]: condition for condition in self.study["conditions"]}
        for cell in self.study["cells"]:
            key = cell["key"]
            if key in self.damaged or self.stamps[key] == ABSENT:
                continue
            try:
                kept, cost = self.kept(key), self._cost(cell["pretrain_key"])
                values = {**kept["values"], **self._shots(cell, kept)}
            except (Failure, FileNotFoundError) as error:
                self.damaged[key] = str(error)
                continue
            except (KeyError, ValueError, TypeError) as error:
                self.damaged[key] = (f"{self.folders[key]}: is no evaluation that this "
                                     f"version reads ({error})")
                continue
            shared = self._shared(cell, methods[cell["method"]], conditions[cell["condition"]])
            yield cell, {**shared, **cost, **{name: kept[name] for name in (
                "protocol", "n_test", "git_commit", "code", "hardware", "created")},
                "torch": kept["versions"].get("torch", "")}, kept, values

    def _shared(self, cell: Mapping[str, Any], method: Mapping[str, Any],
                condition: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "grid": self.study["grid"], "scale": self.study["scale"], "method": method["id"],
            "method_label": method["label"], "reference": method["reference"],
            "condition": condition["id"], "condition_label": condition["label"],
            "level": math.nan if condition["level"] is None else condition["level"],
            "seed": cell["seed"], "evaluation": cell["evaluation"],
            "evaluate_key": cell["key"], "features_key": cell["features_key"],
            "pretrain_key": cell["pretrain_key"]}

    def _shots(self, cell: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, float]:
        counts = self.study["shots"].get(str(cell["seed"]))
        if not counts or "@" in cell["evaluation"] or kept["per_class"] is None:
            return {}
        # a study that was written before there was a choice has no rule
        rule = self.study.get("shots_rule", RULE)
        return long_tail_view(kept["per_class"], counts, rule)

    def _cost(self, key: str) -> dict[str, Any]:
        """What an encoder has cost, all of its ancestry counted, and how it was trained."""
        if key not in self._costs:
            lineage = [self.kept(ancestor) for _, ancestor in self.study["ancestry"][key]]
            own = self.kept(key)
            training, defaults = own["params"].get("training", {}), self.study["training"]
            self._costs[key] = {
                "images_seen": int(sum(found["images_seen"] for found in lineage)),
                "device_seconds": float(sum(found["seconds"] for found in lineage)),
                "images_per_second": own["images_per_second"] or math.nan,
                "threads": int(training.get("threads", defaults["threads"])),
                "precision": training.get("precision", defaults["precision"]),
                "data_fingerprint": own["params"].get("data", {}).get("fingerprint", "")}
        return self._costs[key]

    def runs(self) -> dict[str, Any]:
        """How each stage was made; equal parameters (but for the seed) and versions stand once."""
        tables: dict[str, dict[str, int]] = {"params": {}, "versions": {}, "commands": {}}

        def place(table: str, value: Any) -> int:
            return tables[table].setdefault(canonical(value), len(tables[table]))

        stages = {}
        for key, kind in self.kinds.items():
            if self.stamps[key] == ABSENT:
                continue
            try:
                kept = self.kept(key)
            except (Failure, FileNotFoundError, KeyError, ValueError, TypeError):
                continue
            params = dict(kept["params"])
            stages[key] = [kind, params.pop("seed", None), place("params", params),
                           kept["inputs"], place("versions", kept["versions"]),
                           place("commands", kept["command"]), kept["created"]]
        return {"stages": stages,
                **{name: [json.loads(text) for text in found] for name, found in tables.items()}}

    def write_cache(self, about: Mapping[str, str]) -> None:
        """Keep what was read for the next time; what is damaged is read again."""
        self.cache.write(self.stamps, self._text, about)


def _write_classes(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    schema = pa.schema([("method", pa.string()), ("condition", pa.string()), ("seed", pa.int64()),
                        ("evaluation", pa.string()), ("evaluate_key", pa.string()),
                        ("accuracy", pa.list_(pa.float32()))])
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), out, compression="zstd",
                        write_page_checksum=True)
    write_atomic(path, out.getvalue())
