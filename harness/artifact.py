"""What records need of an artifact: its three JSON files, checked against their checksums."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import Failure
from .evaluation import evaluation
from .stages import digest
from .store import REPAIR, SUMS, sha256

JSONS = ("stage.json", "metrics.json", "record.json")


def read_artifact(folder: str, whole: bool) -> dict[str, Any]:
    """{"stage", "metrics", "record"} of an artifact, each file read once.

    `whole`: every file that SHA256SUMS lists is compared with it, or else only these three (weights
    are large). Raises Failure naming the first file that is missing or not as listed, and
    FileNotFoundError where there is no artifact.
    """
    expected = sums(folder)
    found = {name[:-5]: _json(f"{folder}/{name}", expected.get(name, "")) for name in JSONS}
    for name in (set(expected) - set(JSONS) if whole else ()):
        path = Path(folder) / name
        if not path.exists():
            raise Failure(f"{path}: missing, but in {SUMS}; {REPAIR}")
        if sha256(path) != expected[name]:
            raise Failure(f"{path}: does not match {SUMS}; {REPAIR}")
    return found


def sums(folder: str) -> dict[str, str]:
    """File name -> SHA-256 as SHA256SUMS lists them; Failure where it is missing or damaged."""
    try:
        lines = _bytes(f"{folder}/{SUMS}").decode().splitlines()
        return {name: value for value, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError):
        if not os.path.isdir(folder):
            raise FileNotFoundError(folder) from None
        raise Failure(f"{folder}/{SUMS}: missing or damaged; {REPAIR}") from None


def _bytes(path: str) -> bytes:
    """A small file; half the time of a file object, of which a study opens 100,000."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        data = os.read(descriptor, 1 << 20)
        if len(data) == 1 << 20:
            data += b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))
        return data
    finally:
        os.close(descriptor)


def _json(path: str, expected: str) -> Any:
    try:
        data = _bytes(path)
    except FileNotFoundError:
        raise Failure(f"{path}: missing, but in {SUMS}; {REPAIR}") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise Failure(f"{path}: does not match {SUMS}; {REPAIR}")
    try:
        return json.loads(data)
    except ValueError as error:
        raise Failure(f"{path}: not readable as JSON ({error}); {REPAIR}") from None


def distil(kind: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of an artifact: of an evaluation its numbers, of the others what they cost."""
    stage, metrics, record = found["stage"], found["metrics"], found["record"]
    kept = {
        "kind": kind, "params": stage["params"], "revision": stage["revision"],
        "inputs": stage["inputs"], "versions": record.get("versions", {}),
        "command": record.get("command", ""), "git_commit": record.get("git_commit", ""),
        "code": record.get("code", ""), "hardware": record.get("hardware", ""),
        "created": record.get("created", "")}
    if kind != "evaluate":
        return kept | {
            "images_seen": metrics.get("images_seen", 0),
            "seconds": record.get("seconds", record.get("stage_seconds", 0.0)),
            "images_per_second": record.get("images_per_second")}
    return kept | {
        "values": _values(stage, metrics), "n_test": metrics["n_test"],
        "per_class": metrics.get("per_class"), "protocol": protocol(stage)}


def _values(stage: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that records keep of an evaluation: those that it declares to return."""
    params = stage["params"]
    chosen, metric = evaluation(params["evaluation"]), params.get("metric", "top1")
    always = chosen.returns(metric)
    return {name: metrics[name] for name in chosen.may_return(metric)
            if name in always or name in metrics}


def protocol(stage: Mapping[str, Any]) -> str:
    """A hash of how it was evaluated: equal for all encoders scored alike."""
    params = {name: value for name, value in stage["params"].items() if name != "seed"}
    return digest([stage["revision"], params])[:12]
