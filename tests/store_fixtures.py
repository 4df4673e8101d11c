"""A study over a real store without training: artifacts in the store's layout, with checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import synthetic

from harness.stages import REVISIONS, digest

CLASSES = 6
COUNTS = [60, 30, 15, 8, 4, 2]
RECORD = {"git_commit": "0" * 40, "code": "", "hardware": "2 x x86_64 CPU", "command": "none",
          "created": "2026-11-22T00:00:00+00:00", "versions": {"torch": "2.15.0"},
          "seconds": 31.5, "images_per_second": 6349.2}


def artifact(store: Path, kind: str, params: Mapping[str, Any], inputs: Mapping[str, str],
             metrics: Mapping[str, Any], **record: Any) -> str:
    """A committed artifact; returns its key. Pretraining has weights."""
    identity = {"kind": kind, "revision": REVISIONS[kind], "params": params, "inputs": inputs}
    key = digest(identity)
    folder = store / kind / key[:2] / key
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (("metrics", metrics), ("record", {**RECORD, **record}),
                        ("stage", {"key": key, **identity})):
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1, sort_keys=True))
    if kind == "pretrain":
        (folder / "weights.safetensors").write_bytes(b"0" * 4096)
    seal(folder)
    return key


def seal(folder: Path) -> None:
    """SHA256SUMS of what lies in a folder."""
    (folder / "SHA256SUMS").write_text("".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir()) if path.name != "SHA256SUMS"))


def study(results: Path, seeds: Sequence[int] = (0, 1), methods: Sequence[str] = ("moclr", "dnc"),
          epochs: int = 8, options: Mapping[str, Any] | None = None, shift: float = 0.0) -> Path:
    """A gap study of `methods` in a store of its own; returns its folder."""
    store = results / "store"
    store.mkdir(parents=True, exist_ok=True)
    (store / "version.json").write_text('{"store": 1}')
    cells, ancestry = [], {}
    for method in methods:
        for place, condition in enumerate(("curated", "uncurated")):
            for seed in seeds:
                accuracy = 0.8 - 0.05 * place + 0.01 * seed + shift
                pretrain = artifact(store, "pretrain", {
                    "method": method, "seed": seed, "training": {"epochs": epochs},
                    "data": {"fingerprint": synthetic.key(condition)}}, {},
                    {"images_seen": 1000 * epochs})
                features = artifact(store, "features", {"data": "photos"},
                                    {"encoder": pretrain}, {})
                ancestry[pretrain] = [["pretrain", pretrain]]
                per_class = [accuracy + 0.1 - 0.04 * i for i in range(CLASSES)]
                key = artifact(store, "evaluate", {"evaluation": "linear", "revision": 1,
                                                   "options": dict(options or {})},
                               {"features": features},
                               {"top1": accuracy, "balanced": accuracy, "n_test": 100,
                                "per_class": per_class})
                cells.append({"method": method, "condition": condition, "seed": seed,
                              "evaluation": "linear", "key": key, "features_key": features,
                              "pretrain_key": pretrain})
    plan = synthetic.study(methods=methods, seeds=seeds, evaluations=("linear",))
    plan.update(cells=cells, ancestry=ancestry, shots={str(seed): COUNTS for seed in seeds},
                training={"threads": 1, "precision": "fp32"})
    folder = results / "curation_gap-laptop"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(plan))
    return folder
