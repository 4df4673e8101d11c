"""What a stage of each kind asks of a batch system; nothing of it is in a key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from methods.options import build, option

from .. import schema
from ..errors import unknown
from ..stages import REVISIONS, Stage


@dataclass(frozen=True)
class Resources:
    """One stage's share of an allocation; `gpus` are shared by stages that are packed together."""

    gpus: int = option(0, at_least=0, help="GPUs of each node")
    nodes: int = option(1, at_least=1)
    tasks_per_node: int = option(1, at_least=1, help="processes of a stage on each node")
    cpus: int = option(1, at_least=1, help="cores of each process")
    memory_gb: float | None = option(None, above=0, help="of each node; None: the partition's own")
    minutes: int = option(240, at_least=1, help="of an allocation; a stage outlives it by requeue")
    micro_batch: int | None = option(
        None, at_least=1, help="images of a forward pass of one process, where its memory cannot "
                               "hold its part of a batch: gradients are accumulated")

    @property
    def ranks(self) -> int:
        """Processes that do one stage together."""
        return self.nodes * self.tasks_per_node

    def words(self) -> str:
        """As a plan shows it."""
        parts = [f"{self.nodes} node{'s' * (self.nodes > 1)} x {self.tasks_per_node} "
                 f"task{'s' * (self.tasks_per_node > 1)}", f"{self.gpus} GPUs a node",
                 f"{self.cpus} cores a task"]
        parts += [f"{self.memory_gb:g} GB a node"] if self.memory_gb else []
        parts += [f"{self.micro_batch} images at once a task"] if self.micro_batch else []
        return ", ".join([*parts, f"{self.minutes} minutes"])

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
    found = {kind: build(Resources, {"cpus": threads, **ours[kind], **general, **theirs[kind]},
                         f"resources of {kind}") for kind in REVISIONS}
    return {kind: each if kind == "pretrain" else _alone(each) for kind, each in found.items()}


def _alone(wanted: Resources) -> Resources:
    """What a stage that one process does can use."""
    return replace(wanted, nodes=1, tasks_per_node=1, gpus=min(1, wanted.gpus), micro_batch=None)


def of(stage: Stage, by_kind: Mapping[str, Resources]) -> Resources:
    """A stage's resources: a network that is not trained is no work for many."""
    trained = stage.kind != "pretrain" or "training" in stage.params
    return by_kind[stage.kind] if trained else by_kind["features"]


@dataclass(frozen=True)
class Shape:
    """How a pre-training is run: by so many processes, so many images of each at once (or all)."""

    ranks: int = 1
    micro_batch: int | None = None

    @property
    def at_once(self) -> int | None:
        """Images of a forward pass of all processes; None: the whole batch."""
        return self.micro_batch and self.micro_batch * self.ranks


def shape(config: Mapping[str, Any], gpus: Callable[[], Sequence[str]]) -> Shape:
    """Of a composed configuration; what is wrong in it `by_kind` says. gpus: of this machine.

    On a cluster nodes x tasks_per_node; here `launcher.ranks`, or a process for each GPU up to
    tasks_per_node.
    """
    launcher = config["launcher"]
    wanted = by_kind(config["scale"].get("resources"), launcher, 1, [])["pretrain"]
    if launcher["name"] == "slurm":
        return Shape(wanted.ranks, wanted.micro_batch)
    here = launcher.get("ranks")
    if here is None and wanted.tasks_per_node > 1 and launcher.get("device") != "cpu":
        here = min(wanted.tasks_per_node, len(gpus()))
    return Shape(max(1, here or 1), wanted.micro_batch)


def describe(stages: Iterable[Stage], by_kind: Mapping[str, Resources]) -> list[str]:
    """A line for each kind among the stages, with what its jobs ask of the cluster."""
    counts = Counter((stage.kind, of(stage, by_kind)) for stage in stages)
    lines = [f"  {kind:9} {number:6} x {wanted.words()}"
             for (kind, wanted), number in counts.items()]
    if any(wanted.ranks > 1 for _, wanted in counts):
        lines.append("  (only pre-training is done by several processes: every other stage, "
                     "fine-tuning too, by one)")
    return lines


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


