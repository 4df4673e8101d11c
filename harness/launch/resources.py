"""What a stage of each kind asks of a batch system; nothing of it is in a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from methods.options import build, option

from .. import schema
from ..errors import unknown
from ..stages import REVISIONS


@dataclass(frozen=True)
class Resources:
    """One stage's share of an allocation; `gpus` are shared by stages that are packed together."""

    gpus: int = option(0, at_least=0, help="GPUs of each node")
    nodes: int = option(1, at_least=1)
    tasks_per_node: int = option(1, at_least=1, help="processes of a stage on each node")
    cpus: int = option(1, at_least=1, help="cores of each process")
    memory_gb: float | None = option(None, above=0, help="of each node; None: the partition's own")
    minutes: int = option(240, at_least=1, help="of an allocation; a stage outlives it by requeue")

    @property
    def ranks(self) -> int:
        """Processes that do one stage together."""
        return self.nodes * self.tasks_per_node

    def to_json(self) -> dict[str, Any]:
        """As it is written into the ledger."""
        return asdict(self)


# submitit's names, as the launcher's options, for the fields of `Resources`
NAMES = {"gpus_per_node": "gpus", "nodes": "nodes", "tasks_per_node": "tasks_per_node",
         "cpus_per_task": "cpus", "mem_gb": "memory_gb", "timeout_min": "minutes"}


def by_kind(scale: Any, launcher: Mapping[str, Any], threads: int,
            problems: list[str]) -> dict[str, Resources]:
    """The resources of every kind of stage.

    One core for each thread < `scale.resources.KIND` < the launcher's options, which hold for all
    kinds < `launcher.resources.KIND`. What is wrong is appended to `problems`.
    """
    general = {field: launcher[name] for name, field in NAMES.items()
               if launcher.get(name) is not None}
    ours = _checked(scale, "scale.resources", problems)
    theirs = _checked(launcher.get("resources"), "launcher.resources", problems)
    return {kind: build(Resources, {"cpus": threads, **ours[kind], **general, **theirs[kind]},
                        f"resources of {kind}") for kind in REVISIONS}


def _checked(given: Any, where: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    """The settings of each kind that are right."""
    by_kind = schema.mapping(given, where, problems)
    found: dict[str, dict[str, Any]] = {kind: {} for kind in REVISIONS}
    for kind, values in by_kind.items():
        if kind not in REVISIONS:
            problems.append(str(unknown("kind of stage", kind, REVISIONS, where)))
            continue
        values = schema.mapping(values, f"{where}.{kind}", problems)
        resolved = schema.checked(Resources, values, f"{where}.{kind}", problems)
        found[kind] = {name: resolved[name] for name in resolved if name in values}
    return found


