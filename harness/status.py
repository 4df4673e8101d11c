"""What of a study is done, running, failed and why.

    python -m harness.status grid=curation_gap
    python -m harness.status grid=curation_gap scale=smoke results=DIR

    grid=NAME     the grid; without it, every study of the store in one line each
    scale=NAME    its scale (default laptop)
    results=DIR   the root of everything that is written (default results)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .arguments import RESULTS, find, parse, studies, wants_help
from .claims import is_alive, read_owner
from .errors import door
from .store import KINDS, Store

DEFAULTS = {"grid": "", "scale": "laptop", "results": RESULTS}
STATES = ("done", "running", "failed", "blocked", "missing")


def main(arguments: list[str]) -> int:
    """Print the state; exit code 1 if something failed."""
    if wants_help(arguments):
        print(__doc__)
        return 0
    options = parse(arguments, DEFAULTS, "harness.status")
    results = Path(options["results"]).expanduser()
    if not options["grid"]:
        return _all(results)
    folder = find(results, options["grid"], options["scale"])
    state = inspect(folder)
    _print(folder, state)
    return 1 if state["failed"] else 0


def inspect(folder: Path) -> dict[str, Any]:
    """The state of a study from files alone: stages by state and kind, failures, who runs what."""
    study = json.loads((folder / "study.json").read_text())
    store = Store(folder.parent / "store")
    stages = {key: (kind, parents) for key, kind, parents in study["stages"]}
    committed, failures = store.committed(), store.failures()
    running = {key: read_owner(store.root / "claims" / f"{key}.json") or {} for key in stages
               if key not in committed and is_alive(store.root / "claims" / f"{key}.json")}
    failed = {key: failures[key] for key in stages
              if key in failures and key not in committed and key not in running}
    states: dict[str, str] = {}
    for key, (_, parents) in stages.items():  # in order: inputs come first
        if key in committed:
            states[key] = "done"
        elif key in running:
            states[key] = "running"
        elif key in failed:
            states[key] = "failed"
        else:
            bad = any(states[parent] in ("failed", "blocked") for parent in parents)
            states[key] = "blocked" if bad else "missing"
    return {"study": study, "states": states, "running": running, "failed": failed,
            "kinds": {key: kind for key, (kind, _) in stages.items()}}


def _all(results: Path) -> int:
    names = studies(results)
    if not names:
        print(f"no study in {results} yet; start one with python -m harness.sweep grid=NAME")
    for name in names:
        counts = Counter(inspect(results / name)["states"].values())
        print(f"{name}: " + ", ".join(f"{counts[s]} {s}" for s in STATES if counts[s]))
    return 0


def _print(folder: Path, state: Mapping[str, Any]) -> None:
    states, kinds = state["states"], state["kinds"]
    print(f"{folder.name}: {Counter(states.values())['done']} of {len(states)} stages done")
    for kind in KINDS:
        counts = Counter(states[key] for key in states if kinds[key] == kind)
        if counts:
            print(f"  {kind:9} " + ", ".join(f"{counts[s]} {s}" for s in STATES if counts[s]))
    cells = state["study"]["cells"]
    full = sum(states[cell["key"]] == "done" for cell in cells)
    print(f"  {full} of {len(cells)} cells have a number")
    for key, owner in state["running"].items():
        place = f"{owner.get('host')}, process {owner.get('pid')}"
        print(f"running: {kinds[key]} {key[:12]} on {place}")
    causes = Counter(failure["cause"] for failure in state["failed"].values())
    for cause, number in causes.most_common():
        keys = [key for key, failure in state["failed"].items() if failure["cause"] == cause]
        print(f"failed: {number} x {kinds[keys[0]]}: {cause}\n"
              f"  logs: {folder / 'logs'}; run again: {state['study']['command']}")
    if full < len(cells) and not state["running"]:
        print(f"continue with: {state['study']['command']}")


run = door(main)

if __name__ == "__main__":
    run()
