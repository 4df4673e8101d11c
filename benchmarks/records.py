"""How long records take to be collected from a store: cold, warm, and when little has changed.

    python benchmarks/records.py [RECORDS ...]      (default: 20000 100000)

Makes a store of synthetic cells (linear and kNN, 19 classes: 7 records a cell with top-1, balanced
accuracy, the three groups and their spreads) in a temporary folder, then collects it in fresh
processes. Seconds are CPU seconds of the process, user and system, after its imports; `wall` is
elapsed time. Files are in the page cache. `one changed` is after one metric was measured again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 19
METRICS = 7
ROUNDS = 5
TIMED = """
import sys, time
from pathlib import Path
import pandas, pyarrow.parquet
import harness.records, harness.measured, harness.store, harness.evaluation
start, wall = time.process_time(), time.perf_counter()
frame, damaged = harness.records.collect(Path(sys.argv[1]))
assert not damaged, damaged
print(len(frame), time.process_time() - start, time.perf_counter() - wall)
"""


def write_artifact(store: Path, kind: str, params: Mapping[str, Any], inputs: Mapping[str, str],
                   metrics: Mapping[str, Any]) -> str:
    """A committed artifact in the store's layout, without weights; returns its key."""
    from harness.stages import REVISIONS, digest

    identity = {"kind": kind, "revision": REVISIONS[kind], "params": params, "inputs": inputs}
    key = digest(identity)
    record = {"git_commit": "0" * 40, "code": "", "hardware": "2 x x86_64 CPU", "command": "none",
              "created": "2026-11-22T00:00:00+00:00", "versions": {"torch": "2.15.0"},
              "seconds": 31.5, "images_per_second": 6349.2}
    folder = store / kind / key[:2] / key
    folder.mkdir(parents=True)
    lines = []
    for name, value in (("metrics", metrics), ("record", record),
                        ("stage", {"key": key, **identity})):
        text = json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"
        (folder / f"{name}.json").write_bytes(text)
        lines.append(f"{hashlib.sha256(text).hexdigest()}  {name}.json\n")
    (folder / "SHA256SUMS").write_text("".join(lines))
    return key


def make(results: Path, records: int) -> Path:
    """A study of `records` records over one store; returns its folder."""
    store = results / "store"
    methods, conditions = [f"m{i}" for i in range(10)], ["curated", "uncurated"]
    seeds = records // METRICS // (len(methods) * len(conditions) * 2)
    cells, ancestry = [], {}
    for method in methods:
        for condition in conditions:
            for seed in range(seeds):
                pretrain = write_artifact(
                    store, "pretrain", {"method": method, "seed": seed, "training": {"epochs": 8},
                                        "data": {"fingerprint": condition}}, {},
                    {"images_seen": 200_000, "final_loss": 1.0})
                features = write_artifact(store, "features", {"data": "photos"},
                                          {"encoder": pretrain}, {})
                ancestry[pretrain] = [["pretrain", pretrain]]
                for evaluation in ("linear", "knn"):
                    accuracy = 0.5 + 0.4 * ((seed * 7919) % 1000) / 1000
                    key = write_artifact(
                        store, "evaluate", {"evaluation": evaluation, "options": {}, "revision": 1},
                        {"features": features},
                        {"top1": accuracy, "balanced": accuracy, "n_test": 1900,
                         "per_class": [accuracy] * CLASSES})
                    cells.append({"method": method, "condition": condition, "seed": seed,
                                  "evaluation": evaluation, "key": key, "features_key": features,
                                  "pretrain_key": pretrain})
    folder = results / "many-laptop"
    folder.mkdir()
    counts = [500 // (i + 1) for i in range(CLASSES)]
    (folder / "study.json").write_text(json.dumps({
        "grid": "many", "scale": "laptop", "cells": cells, "ancestry": ancestry,
        "methods": [{"id": m, "label": m, "reference": False} for m in methods],
        "conditions": [{"id": c, "label": c, "level": None, "role": c} for c in conditions],
        "training": {"threads": 1, "precision": "fp32"},
        "shots": {str(seed): counts for seed in range(seeds)}}))
    return folder


def collect(folder: Path) -> tuple[int, float, float]:
    """Records, CPU seconds and elapsed seconds of one collection in a fresh process."""
    done = subprocess.run([sys.executable, "-c", TIMED, str(folder)], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    count, cpu, wall = done.stdout.split()
    return int(count), float(cpu), float(wall)


def change_one(folder: Path) -> None:
    """Measure one evaluation again: its files are new, its numbers are not."""
    artifact = next((folder.parent / "store" / "evaluate").glob("??/*"))
    text = (artifact / "metrics.json").read_bytes()
    (artifact / "metrics.json").write_bytes(text)


def run(records: int) -> None:
    """Print the three times for one size."""
    results = Path(tempfile.mkdtemp(prefix="records-"))
    try:
        folder = make(results, records)
        times: dict[str, list[tuple[int, float, float]]] = {}
        for _ in range(ROUNDS):
            shutil.rmtree(results / "store" / "index", ignore_errors=True)
            times.setdefault("cold", []).append(collect(folder))
            times.setdefault("warm", []).append(collect(folder))
            change_one(folder)
            times.setdefault("one changed", []).append(collect(folder))
    finally:
        shutil.rmtree(results)
    for name, found in times.items():
        cpu, wall = [t[1] for t in found], [t[2] for t in found]
        print(f"{found[0][0]:>7,} records  {name:12} {statistics.median(cpu):6.2f} s CPU "
              f"[{min(cpu):.2f}, {max(cpu):.2f}], {statistics.median(wall):6.2f} s wall "
              f"(n={len(found)})", flush=True)


if __name__ == "__main__":
    for size in map(int, sys.argv[1:] or ("20000", "100000")):
        run(size)
