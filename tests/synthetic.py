"""Synthetic studies with known truth, in the shape that the sweep leaves behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import record_file

LABELS = {
    "simclr": "SimCLR", "moco_v2": "MoCo v2", "byol": "BYOL", "moclr": "MoCLR", "dnc": "DnC",
    "random_init": "random init", "raw_pixels": "raw pixels", "supervised": "supervised",
}
REFERENCES = ("random_init", "raw_pixels", "supervised")
# accuracy on curated images, and what the uncurated condition (or the last level) costs
TRUTH = {
    "simclr": (0.815, 0.085), "moco_v2": (0.790, 0.070), "byol": (0.802, 0.060),
    "moclr": (0.824, 0.055), "dnc": (0.846, 0.022), "random_init": (0.661, 0.0),
    "raw_pixels": (0.322, 0.0), "supervised": (0.958, 0.040),
}
GAP = [
    {"id": "curated", "label": "curated", "level": None, "role": "curated"},
    {"id": "uncurated", "label": "uncurated", "level": None, "role": "uncurated"},
]
LEVELS = [
    {"id": f"if{level}", "label": str(level), "level": float(level), "role": None}
    for level in (1, 5, 20, 50, 100, 200)
]
METRICS = {"top1": 0.0, "balanced": -0.004, "many": 0.03, "medium": 0.0, "few": -0.05}


def key(*parts: object) -> str:
    """A content key in the form of the store's."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def study(grid: str = "curation_gap", *, methods: Sequence[str] = tuple(TRUTH),
          conditions: Sequence[Mapping[str, Any]] = GAP, seeds: Sequence[int] = (0, 1, 2),
          evaluations: Sequence[str] = ("linear", "knn"), figure: str = "gap",
          **overrides: Any) -> dict[str, Any]:
    """A study.json whose cells are the full product."""
    cells = [
        {"method": m, "condition": c["id"], "seed": s, "evaluation": e,
         "key": key(grid, m, c["id"], s, e)}
        for m in methods for c in conditions for s in seeds for e in evaluations
    ]
    axis = {"label": "imbalance factor", "log": True} if figure == "curve" else None
    return {
        "grid": grid, "scale": "laptop",
        "title": "The curation gap" if figure == "gap" else "Accuracy against class imbalance",
        "caption": "Linear and kNN accuracy after pre-training on curated and uncurated variants "
                   "of the same images, at equal total images and updates.",
        "figure": figure, "data_label": "photos (embedded), 32x32",
        "note": "The embedded photos are a self-contained demonstration: the label is which of 19 "
                "photographs a patch was cut from. They are no evidence about natural images.",
        "methods": [{"id": m, "label": LABELS.get(m, m), "reference": m in REFERENCES}
                    for m in methods],
        "conditions": [dict(c) for c in conditions], "axis": axis, "seeds": list(seeds),
        "evaluations": list(evaluations),
        "headline": {"evaluation": evaluations[0], "metric": "balanced"},
        "interval": {"level": 0.95, "kind": "t"}, "cells": cells, "failures": [],
        "command": f"python -m harness.sweep grid={grid} scale=laptop",
    } | overrides


def records(plan: Mapping[str, Any], *, noise: float = 0.008, random: int = 0,
            truth: Mapping[str, tuple[float, float]] = TRUTH) -> pd.DataFrame:
    """One row per cell and metric, with a seed effect that both conditions share."""
    rng = np.random.default_rng(random)
    place = {c["id"]: i for i, c in enumerate(plan["conditions"])}
    level = {c["id"]: c["level"] for c in plan["conditions"]}
    last = max(1, len(place) - 1)
    shared = {(m["id"], s): rng.normal(0, noise) for m in plan["methods"] for s in plan["seeds"]}
    labels = {m["id"]: m for m in plan["methods"]}
    rows = []
    for cell in plan["cells"]:
        method, condition, seed = cell["method"], cell["condition"], cell["seed"]
        start, loss = truth.get(method, (0.7, 0.1))
        value = start - loss * place[condition] / last - 0.03 * (cell["evaluation"] == "knn")
        value += shared[method, seed] + rng.normal(0, noise / 2)
        for metric, shift in METRICS.items():
            rows.append({
                "grid": plan["grid"], "scale": plan["scale"], "method": method,
                "method_label": labels[method]["label"], "condition": condition,
                "condition_label": condition,
                "level": np.nan if level[condition] is None else level[condition], "seed": seed,
                "evaluation": cell["evaluation"], "metric": metric,
                "value": float(np.clip(value + shift, 0, 1)), "n_test": 1900,
                "evaluate_key": cell["key"],
                "features_key": key("features", method, condition, seed),
                "pretrain_key": key("pretrain", method, condition, seed),
                "protocol": key("protocol", cell["evaluation"])[:16],
                "data_fingerprint": key("data", condition), "images_seen": 200_000,
                "device_seconds": 31.5, "images_per_second": 6349.2, "threads": 2,
                "precision": "bf16", "git_commit": "3f2c1ab" + "0" * 33, "code": "",
                "hardware": "2 x x86_64 CPU", "torch": "2.15.0",
                "created": "2026-11-22T00:00:00Z", "reference": labels[method]["reference"],
            })
    return pd.DataFrame(rows)


def fail(plan: dict[str, Any], frame: pd.DataFrame, method: str, condition: str,
         seeds: Sequence[int]) -> pd.DataFrame:
    """Turn cells into failures: planned, named in `failures`, absent from the records."""
    for cell in plan["cells"]:
        if (cell["method"], cell["condition"]) == (method, condition) and cell["seed"] in seeds:
            plan["failures"].append({
                **{k: cell[k] for k in ("method", "condition", "seed", "evaluation")},
                "stage_key": key("pretrain", method, condition, cell["seed"]),
                "cause": "loss is NaN at step 412 of 780 (pretrain)",
                "rerun": f"python -m harness.sweep grid={plan['grid']} scale=laptop "
                         f"grid.methods=[{method}] grid.seeds=[{cell['seed']}]",
            })
    gone = ((frame["method"] == method) & (frame["condition"] == condition)
            & frame["seed"].isin(list(seeds)))
    return frame[~gone].reset_index(drop=True)


def write(results: Path, plan: Mapping[str, Any], frame: pd.DataFrame) -> Path:
    """Lay a study out as `<results>/<grid>-<scale>/` and return that folder."""
    folder = results / f"{plan['grid']}-{plan['scale']}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(plan, indent=1), encoding="utf-8")
    record_file.write(folder / "records.parquet", frame)
    return folder
