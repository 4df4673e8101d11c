"""The launcher's settings of a request, checked, all problems at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .. import schema
from ..errors import Problems
from . import local, resources

SWITCHES = ("dry_run", "repair", "wait")
# How many jobs a cluster is taken to run at a time where nothing limits them, for the estimate.
CLUSTER_JOBS = 32


def settings(config: Mapping[str, Any], study: Any) -> dict[str, Any]:
    """What the launchers and the workers need; `launcher` holds the launcher's own options.

    study: None where it cannot be resolved, to find what else is wrong. Raises Problems.
    """
    problems: list[str] = []
    name = config["launcher"]["name"]
    launcher = schema.checked(schema.LAUNCHERS[name], config["launcher"], "launcher", problems)
    threads = int(study.training["threads"]) if study else 1
    by_kind = resources.by_kind(config["scale"].get("resources"), launcher, threads, problems)
    switches = {}
    for key in SWITCHES:
        if not isinstance(config[key], bool):
            problems.append(f"{key}: must be true or false, got {config[key]!r}")
        switches[key] = config[key]
    if problems:
        raise Problems(problems)
    ranks = 1 if name == "slurm" else resources.shape(config, local.gpus).ranks
    devices = local.gpus() if (name == "local" or name != "slurm" and ranks > 1) \
        and launcher["device"] != "cpu" else []
    # the processes of a pre-training have a GPU each; one worker starts them and has them all
    if devices and ranks > len(devices):
        raise Problems([f"launcher.ranks: {ranks} processes need a GPU each, this machine has "
                        f"{len(devices)}"])
    devices = [",".join(devices[i:i + ranks]) for i in range(0, len(devices) - ranks + 1, ranks)]
    return {**switches, "name": name, "launcher": launcher, "resources": by_kind,
            "device": launcher["device"], "checkpoint_seconds": launcher["checkpoint_seconds"],
            "retries": launcher.get("retries", 0), "gpus": devices, "threads": threads,
            "ranks": {"rank": 0, "size": ranks, "host": "127.0.0.1", "port": 0}
            if ranks > 1 else None,
            "workers": _workers(name, launcher, devices, threads * ranks),
            "plugins": [str(path.resolve()) for path in study.plugins] if study else []}


WORKERS_NEED = ("store", "threads", "device", "checkpoint_seconds", "data_paths", "plugins",
                "provenance", "retries", "gpus", "ranks", "name")


def for_workers(chosen: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """What worker processes need of the settings, as JSON values."""
    return {**{name: chosen[name] for name in WORKERS_NEED}, "packs": chosen.get("packs"),
            **changes}


def _workers(name: str, launcher: Mapping[str, Any], devices: list[str], threads: int) -> int:
    """Stages at a time: of the pool here, or as the estimate takes it for a cluster."""
    if name == "slurm":
        return (launcher["max_running"] or CLUSTER_JOBS) * (launcher["pack"] or 1)
    return int(launcher["workers"] or len(devices) or max(1, cores() // threads))


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
