"""How the runs behind a cell were made, as the page's script reads it."""

from __future__ import annotations

from typing import Any

from harness.beside import runs
from harness.measured import Measured

MOST_STAGES = 2_000  # about 1 MB; beyond that the page points to runs.json beside it


def made(measured: Measured) -> dict[str, Any]:
    """{"stages": {key: [kind, seed, params, inputs, versions, command, created]}, ...}.

    `params`, `versions` and commands are places in lists; see `records`. Stages that are behind no
    record are left out. Empty where they are too many or were not collected.
    """
    found = runs(measured)
    wanted: dict[str, list[Any]] = {}
    queue = [str(key) for name in ("evaluate_key", "pretrain_key")
             for key in measured.records[name].unique()]
    while queue:
        key = queue.pop()
        if key in found.stages and key not in wanted:
            wanted[key] = found.stages[key]
            queue += [str(parent) for parent in found.stages[key][3].values()]
    if not wanted or len(wanted) > MOST_STAGES:
        return {}
    return {"stages": dict(sorted(wanted.items())), "params": found.params,
            "versions": found.versions, "commands": found.commands}
