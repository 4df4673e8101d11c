"""The inline launcher: worker processes on this machine, for as long as the command runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..stages import Stage
from ..store import Store
from .pool import Outcome, Pool, Report
from .settings import for_workers

__all__ = ["Outcome", "run"]


def run(stages: Sequence[Stage], store: Store, settings: Mapping[str, Any], workers: int,
        logs: Path, report: Report) -> Outcome:
    """Do `stages` (inputs first) with `workers` processes; `report` gets every event.

    Ctrl-C stops cleanly: running stages checkpoint, and the outcome says so.
    """
    if not stages:
        return Outcome()
    return Pool(stages, store, for_workers(settings), workers, logs, report,
                gpus=settings["gpus"]).run()
