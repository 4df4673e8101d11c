"""Stages are values: what is computed, never where.

A stage's key is the SHA-256 of the canonical JSON of its kind, the revision of the code that gives
the kind its meaning, its parameters and the keys of its inputs. Everything that changes a number is
in it (method, data fingerprint, schedule, seed, precision, threads, protocol); paths, workers,
devices and log settings are not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

# Raised by hand when the meaning of a kind changes (guarded by the golden-curve tests); then every
# artifact of that kind, and of what builds on it, is computed anew.
REVISIONS = {"pretrain": 1, "cluster": 1, "features": 1, "evaluate": 1}


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; NaN and other non-JSON values raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Stage:
    """A unit of work: a kind, its parameters (JSON values) and the stages it reads, by role."""

    kind: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Stage] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The content hash that names this stage and its artifact."""
        return digest(self.identity())

    @classmethod
    def known(cls, kind: str, key: str) -> Stage:
        """A stage that is read only: its kind and its key, without what it is made from."""
        stage = cls(kind, {})
        stage.__dict__["key"] = key
        return stage

    def identity(self) -> dict[str, Any]:
        """What the key covers."""
        return {
            "kind": self.kind,
            "revision": REVISIONS[self.kind],
            "params": dict(self.params),
            "inputs": {role: stage.key for role, stage in self.inputs.items()},
        }

    def to_json(self) -> dict[str, Any]:
        """What is stored in `stage.json` and sent to a worker."""
        return {"key": self.key, **self.identity()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stage) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def in_order(stages: Iterable[Stage]) -> list[Stage]:
    """All stages and their ancestors, each once, every stage after its inputs."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.key not in ordered:
            for parent in stage.inputs.values():
                visit(parent)
            ordered[stage.key] = stage

    for stage in stages:
        visit(stage)
    return list(ordered.values())
