"""How the runs behind a cell were made, as the page's script reads it."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from harness.beside import runs
from harness.measured import Measured

# Packed, a stage takes about 60 bytes of the page: 6 MB. Beyond that it points to runs.json.
MOST_STAGES = 100_000


def packed(measured: Measured) -> tuple[str, str]:
    """`made` for the page, gzip in base64, and "" or, in its stead, where it can be read.

    Keys stand once; stages and what they were made from are places in their list.
    """
    found = made(measured)
    stages: dict[str, list[Any]] = found.get("stages", {})
    if not stages:
        return "", ("How these runs were made is not told here: runs.json was not beside "
                    "records.parquet, or does not have them.")
    if len(stages) > MOST_STAGES:
        return "", (f"{len(stages):,} stages are too many for this page: how each was made is in "
                    "runs.json beside it. The stages and logs of one cell: python -m "
                    f"harness.status {measured.study.named} cell=METHOD,CONDITION,SEED")
    places = {key: i for i, key in enumerate(stages)}
    rows = [[*row[:3], {name: places[key] for name, key in row[3].items() if key in places},
             *row[4:]] for row in stages.values()]
    text = json.dumps({**found, "keys": list(stages), "stages": rows}, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode(), ""


def made(measured: Measured) -> dict[str, Any]:
    """{"stages": {key: [kind, seed, params, inputs, versions, command, created]}, ...}.

    `params`, `versions` and commands are places in lists; see `records`. Stages that are behind no
    record are left out. Empty where they were not collected.
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
    if not wanted:
        return {}
    return {"stages": dict(sorted(wanted.items())), "params": found.params,
            "versions": found.versions, "commands": found.commands}
