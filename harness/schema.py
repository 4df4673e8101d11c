"""The shape of the configuration: one dataclass per node, checked by the same rules as a method's
options (types, ranges, choices, "did you mean")."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from methods import options
from methods.options import option, options_of, resolve


@dataclass(frozen=True)
class Training:
    """How a pre-training run is optimised; every field is part of the stage's key."""

    epochs: float = option(40.0, above=0, help="passes over the images of the run")
    batch_size: int = option(128, at_least=2)
    optimizer: str = option("sgd", choices=("sgd", "lars", "lars_simclr", "adamw"),
                            help="lars puts the learning rate after the momentum (BYOL), "
                                 "lars_simclr inside it (SimCLR)")
    lr: float = option(0.05, above=0, help="peak learning rate, absolute (not per 256 images)")
    momentum: float = option(0.9, at_least=0, below=1)
    weight_decay: float = option(1e-4, at_least=0, help="not applied to biases and norm layers")
    decay_all: bool = option(False, added=True, help="weight_decay to biases and norm layers too, "
                             "as SGD over all parameters has it; not with lars")
    warmup_epochs: float = option(0.0, at_least=0, help="linear warm-up, in epochs of the run")
    schedule: str = option("cosine", choices=("cosine", "cosine_cld", "constant"),
                           help="after the warm-up; cosine_cld starts at lr / 100, ends at 1e-6")
    precision: str = option("bf16", choices=("bf16", "fp32"))
    threads: int = option(1, at_least=1, help="CPU threads of one stage: they change rounding")


@dataclass(frozen=True)
class Inline:
    """Worker processes on this machine."""

    name: str = option("inline", choices=("inline",))
    workers: int | None = option(None, at_least=1, help="default: cores / threads of a stage")
    ranks: int | None = option(
        None, at_least=1, help="processes of one pre-training; default: a GPU each, up to "
                               "scale.resources.pretrain.tasks_per_node; without GPUs 1")
    device: str = option("auto", choices=("auto", "cpu", "cuda"))
    checkpoint_seconds: float = option(60.0, above=0)


@dataclass(frozen=True)
class Local:
    """One detached job on this machine, with a worker for each GPU."""

    name: str = option("local", choices=("local",))
    workers: int | None = option(None, at_least=1,
                                 help="default: one for each GPU; without, cores / threads")
    ranks: int | None = option(
        None, at_least=1, help="processes of one pre-training; default: a GPU each, up to "
                               "scale.resources.pretrain.tasks_per_node; without GPUs 1")
    device: str = option("auto", choices=("auto", "cpu", "cuda"))
    checkpoint_seconds: float = option(60.0, above=0)
    retries: int = option(3, at_least=0, help="of a stage whose worker was killed")
    signal_delay_s: int = option(30, at_least=1)
    setup: tuple[str, ...] = option((), help="shell lines before the job")


@dataclass(frozen=True)
class Slurm:
    """Jobs on a cluster; submitit's own option names, None: the cluster's default."""

    name: str = option("slurm", choices=("slurm",))
    partition: str | None = option(None)
    account: str | None = option(None)
    qos: str | None = option(None)
    constraint: str | None = option(None)
    exclude: str | None = option(None)
    nodelist: str | None = option(None)
    mail_type: str | None = option(None)
    mail_user: str | None = option(None)
    timeout_min: int | None = option(None, at_least=1, help="a stage outlives it by requeue")
    nodes: int | None = option(None, at_least=1)
    tasks_per_node: int | None = option(None, at_least=1)
    gpus_per_node: int | None = option(None, at_least=0)
    cpus_per_task: int | None = option(None, at_least=1)
    mem_gb: float | None = option(None, above=0)
    signal_delay_s: int = option(120, at_least=25, help="for checkpoints, before the time is out")
    setup: tuple[str, ...] = option((), help="shell lines before the job: module load, ...")
    slurm: dict | None = option(None, help="any other option of sbatch: {reservation: x}")
    resources: dict | None = option(None, help="by kind of stage: {pretrain: {gpus: 1}, ...}")
    max_running: int | None = option(None, at_least=1, help="jobs of a submission at a time")
    pack: int | None = option(None, at_least=1, help="units side by side in one allocation")
    turns: int | None = option(None, at_least=1, help="units in turn in one allocation")
    gpu_memory_gb: float | None = option(None, above=0, help="with it, pack follows from memory")
    retries: int = option(3, at_least=0, help="of a stage or job that was killed")
    device: str = option("auto", choices=("auto", "cpu", "cuda"))
    checkpoint_seconds: float = option(60.0, above=0)


LAUNCHERS: dict[str, type] = {"inline": Inline, "local": Local, "slurm": Slurm}


@dataclass(frozen=True)
class Pricing:
    """What a dry run of papers' tables assumes of the hardware."""

    gpu: str = option("A100-80GB")
    teraflops: float = option(60.0, above=0, help="sustained in training, 1e12 operations/s")


def keyed(training: Mapping[str, Any]) -> dict[str, Any]:
    """What a stage's key covers of resolved training settings, see `methods.options.keyed`."""
    return options.keyed(options_of(Training), training)


def checked(schema: type, values: Mapping[str, Any], where: str,
            problems: list[str]) -> dict[str, Any]:
    """Resolve `values` by the fields of `schema`; what is wrong is appended to `problems`."""
    resolved, found = resolve(options_of(schema), values, where)
    problems.extend(found)
    if resolved.get("decay_all") and str(resolved.get("optimizer")).startswith("lars"):
        problems.append(f"{where}: 'decay_all' is of sgd and adamw, not of lars, whose releases "
                        "leave biases and norm layers out: set decay_all=false")
    return resolved


def mapping(value: Any, where: str, problems: list[str]) -> dict[str, Any]:
    """`value` as a dict; anything but a mapping or null is a problem."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        problems.append(f"{where}: must be a mapping of names to values, got {value!r}")
        return {}
    return dict(value)


def names(value: Any, where: str, problems: list[str]) -> list[str]:
    """`value` as a list of distinct strings with at least one entry."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        problems.append(f"{where}: must be a list of names, for instance [a,b], got {value!r}")
        return []
    if not value:
        problems.append(f"{where}: must name at least one")
    for name in _repeated(value):
        problems.append(f"{where}: '{name}' is listed twice")
    return list(dict.fromkeys(value))


def seeds(value: Any, where: str, problems: list[str]) -> list[int]:
    """`value` as a list of distinct integers >= 0 with at least one entry."""
    fits = isinstance(value, (list, tuple)) and all(
        isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value)
    if not fits or not value:
        problems.append(f"{where}: must be a list of integers >= 0, for instance [0,1,2], "
                        f"got {value!r}")
        return []
    for seed in _repeated(value):
        problems.append(f"{where}: {seed} is listed twice")
    return list(dict.fromkeys(value))


def _repeated(values: Iterable[Any]) -> list[Any]:
    counts = Counter(values)
    return [value for value, number in counts.items() if number > 1]
