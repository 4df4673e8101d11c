"""study.json: what a study's table consists of, so that it can be made again from records alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import Failure
from .evaluation.shots import RULE
from .plan import Cell, Plan
from .stages import in_order
from .store import read_json, write_json


def write(plan: Plan, command: str, failed: Mapping[str, str]) -> None:
    """Write `study.json` into the study's folder."""
    plan.study.folder.mkdir(parents=True, exist_ok=True)
    write_json(plan.study.folder / "study.json", manifest(plan, command, failed))


def displaced(plan: Plan, command: str) -> str:
    """One line where the folder holds the page of a study with cells that this one has not."""
    folder = plan.study.folder
    try:
        before = read_json(folder / "study.json")
        keys = [cell["key"] for cell in before["cells"]]
        old = str(before["command"])
    except (OSError, Failure, KeyError, TypeError):
        return ""
    own = {cell.stage.key for cell in plan.cells}
    gone = sum(key not in own for key in keys)
    if not gone or old == command:
        return ""
    return (f"{folder} held another study: {gone} of its {len(keys)} cells are not in this one. "
            f"They stay in the store, and its page comes back with: {old} "
            "(grid.name=NAME gives a study a folder of its own)")


def manifest(plan: Plan, command: str, failed: Mapping[str, str]) -> dict[str, Any]:
    """The study as JSON: rows, conditions, seeds, the key of every cell, failures."""
    study, grid, data = plan.study, plan.study.config["grid"], plan.study.config["data"]
    return {
        "grid": study.name, "scale": study.scale, "data": study.data, "command": command,
        "title": grid["title"], "caption": grid["caption"], "figure": grid["figure"],
        "data_label": data["label"], "note": data.get("note") or "",
        "methods": [{"id": r.id, "label": r.label, "reference": r.reference,
                     "paper": r.spec.paper} for r in study.rows],
        "conditions": [{"id": c.id, "label": c.label, "level": c.level, "role": c.role}
                       for c in study.conditions],
        "axis": {"label": grid["axis"]["label"], "log": bool(grid["axis"]["log"])}
        if grid.get("axis") else None,
        "seeds": list(study.seeds), "evaluations": list(study.evaluations),
        "protocols": {name: {"label": asked.label, "metrics": list(asked.metrics),
                             "target": asked.target}
                      for name, asked in study.evaluations.items()},
        "headline": grid["headline"], "interval": grid["interval"],
        "training": dict(study.training),
        "cells": [_cell(cell) for cell in plan.cells],
        "stages": [[s.key, s.kind, [p.key for p in s.inputs.values()]] for s in plan.stages],
        "ancestry": _ancestry(plan),
        "shots": {str(seed): shots(plan, seed) for seed in study.seeds},
        "shots_rule": grid.get("shots_rule", RULE),
        "class_counts": [{"condition": condition, "seed": seed, "counts": list(counts)}
                         for (condition, seed), counts in plan.class_counts.items()],
        "failures": failures(plan, command, failed),
        **({"papers": _papers(plan)} if study.papers else {}),
    }


def _papers(plan: Plan) -> dict[str, Any]:
    """What fills the published cells; a row that the scale refuses fills none, and says why."""
    told = {}
    for name, entry in plan.study.papers.items():
        cells = []
        for cell in entry["cells"]:
            refused = plan.refused.get((cell.get("method", ""), cell.get("condition", "")))
            cells.append({**cell, "reason": refused} if refused else cell)
        told[name] = {**entry, "cells": cells}
    return told


def _cell(cell: Cell) -> dict[str, Any]:
    features = cell.features
    return {"method": cell.row.id, "condition": cell.condition.id, "seed": cell.seed,
            "evaluation": cell.evaluation, "key": cell.stage.key,
            "features_key": features.key if features else "", "pretrain_key": cell.encoder.key}


def _ancestry(plan: Plan) -> dict[str, list[list[str]]]:
    """encoder's key -> [kind, key] of every stage that it took to make it, itself included."""
    encoders = {}
    for cell in plan.cells:
        encoder = cell.encoder
        if encoder.key not in encoders:
            encoders[encoder.key] = [[s.kind, s.key] for s in in_order([encoder])]
    return encoders


def shots(plan: Plan, seed: int) -> list[int]:
    """Images of each class in the most imbalanced condition of the study with this seed.

    Classes are grouped into many, medium and few by these counts in all conditions, so that "few"
    names the same classes in each of them. Empty when every condition is balanced.
    """
    counts = [c for (_, s), c in plan.class_counts.items() if s == seed and min(c) > 0]
    skewed = max(counts, key=lambda c: max(c) / min(c), default=())
    return list(skewed) if skewed and max(skewed) - min(skewed) > 1 else []


def failures(plan: Plan, command: str, failed: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every cell that a failed stage leaves empty, with the cause and how to run just it again.

    `failed` maps a stage's key to its cause, or to the key of the stage that it waited for. The
    command is the whole grid's, since it runs again just what is missing.
    """
    found = []
    for cell in plan.cells:
        for stage in in_order([cell.stage]):
            if stage.key in failed:
                found.append({
                    "method": cell.row.id, "condition": cell.condition.id, "seed": cell.seed,
                    "evaluation": cell.evaluation, "stage_key": stage.key, "kind": stage.kind,
                    "cause": failed[stage.key], "rerun": command})
                break
    return found
