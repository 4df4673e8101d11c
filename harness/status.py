"""What of a study is done, running, queued, failed and why, on this machine and on the cluster.

    python -m harness.status grid=curation_gap
    python -m harness.status grid=curation_gap scale=smoke results=DIR
    python -m harness.status grid=curation_gap watch=true
    python -m harness.status grid=curation_gap cell=simclr,uncurated,0

    grid=NAME     the grid; without it, every study of the store in one line each
    table=NAME    instead of a grid, a published table (dnc/table3), a paper (dnc), or all
    scale=NAME    its scale (default laptop)
    data=NAME     its images (default photos)
    results=DIR   the root of everything that is written (default results)
    watch=true    again every few seconds, until nothing runs and nothing waits
    cell=METHOD,CONDITION,SEED   the stages of one cell of the table: state, job, log

exit codes: 0 nothing failed, 1 something failed, was lost or vanished, 2 wrong request
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .arguments import RESULTS, boolean, find, named, parse, studies, wants_help
from .errors import UserError, door
from .launch.states import BAD, NAMES, State, look
from .store import KINDS, Store, read_json

DEFAULTS = {"grid": "", "table": "", "scale": "laptop", "data": "", "results": RESULTS,
            "watch": "false", "cell": ""}
WATCH_SECONDS = 5.0
# More lines than this of one sort are counted, not printed.
SHOWN = 20
LAST_LINES = 4


def main(arguments: list[str]) -> int:
    """Print the state; exit code 1 if something failed."""
    if wants_help(arguments):
        print(__doc__)
        return 0
    options = parse(arguments, DEFAULTS, "harness.status")
    results = Path(options["results"]).expanduser()
    if not (study := named(options, "harness.status")):
        return _all(results)
    folder = find(results, study, options["scale"], options["data"])
    watch = boolean("watch", options["watch"], "harness.status")
    while True:
        view = View(folder)
        if watch and sys.stdout.isatty():
            print("\033[H\033[2J", end="")
        view.show_cell(options["cell"]) if options["cell"] else view.show()
        if not watch or not view.count("running", "queued"):
            return 1 if view.count(*BAD) else 0
        sys.stdout.flush()
        time.sleep(WATCH_SECONDS)


def _all(results: Path) -> int:
    names = studies(results)
    if not names:
        print(f"no study in {results} yet; start one with python -m harness.sweep grid=NAME")
    for name in names:
        counts = Counter(state.name for state in look(results / name).values())
        print(f"{name}: " + _counted(counts))
    return 0


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in NAMES if counts.get(name))


class View:
    """One look at a study, and how it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder.parent / "store")
        self.study = read_json(folder / "study.json")
        self.states = look(folder)
        self.kinds = {key: kind for key, kind, _ in self.study["stages"]}
        self.parents = {key: parents for key, _, parents in self.study["stages"]}
        self.names = self._names()

    def count(self, *names: str) -> int:
        """How many stages are in one of these states."""
        return sum(state.name in names for state in self.states.values())

    def show(self) -> None:
        """Print the whole study."""
        print(f"{self.folder.name}: {self.count('done')} of {len(self.states)} stages done")
        for kind in KINDS:
            counts = Counter(s.name for key, s in self.states.items() if self.kinds[key] == kind)
            if counts:
                print(f"  {kind:9} {_counted(counts)}")
        cells = self.study["cells"]
        full = sum(self.states[cell["key"]].name == "done" for cell in cells)
        print(f"  {full} of {len(cells)} cells have a number")
        self._show_running()
        self._show_queued()
        for name in BAD:
            self._show_bad(name)
        if full < len(cells) and not self.count("running", "queued"):
            print(f"continue with: {self.study['command']}")

    def show_cell(self, words: str) -> None:
        """Print every stage that one cell needs, with its state, its job and its log."""
        cells = [c for c in self.study["cells"] if
                 [c["method"], c["condition"], str(c["seed"])] == words.split(",")[:3]]
        if not cells:
            some = self.study["cells"][0]
            raise UserError(f"cell={words}: no such cell; write METHOD,CONDITION,SEED, for "
                            f"instance cell={some['method']},{some['condition']},{some['seed']}")
        needed: set[str] = {cell["key"] for cell in cells}
        for key in reversed(self.parents):
            if key in needed:
                needed |= set(self.parents[key])
        for key in self.parents:
            if key in needed:
                state = self.states[key]
                job = f" (job {state.job})" if state.job else ""
                print(f"{state.name:8} {self.kinds[key]} {key[:12]}{job} "
                      f"{state.cause}\n         log: {self.store.log(key)}")

    def _names(self) -> dict[str, str]:
        """Every stage by the first cell that needs it, as a person calls it."""
        names: dict[str, str] = {}
        for cell in self.study["cells"]:
            place = f"{cell['method']}, {cell['condition']}, seed {cell['seed']}"
            left = [cell["key"]]
            while left:
                key = left.pop()
                if key not in names:
                    names[key] = f"{self.kinds[key]} for {place}"
                    left += self.parents[key]
        return names

    def _in(self, name: str) -> dict[str, State]:
        return {key: state for key, state in self.states.items() if state.name == name}

    def _show_running(self) -> None:
        running = self._in("running")
        for key, state in list(running.items())[:SHOWN]:
            job = f"job {state.job}, " if state.job else ""
            owner = f"{state.owner.get('host')}, process {state.owner.get('pid')}"
            print(f"running: {self.names[key]}{_progress(state.progress)} ({job}{owner})")
        if len(running) > SHOWN:
            print(f"running: {len(running) - SHOWN} more")

    def _show_queued(self) -> None:
        reasons = Counter(state.cause for state in self._in("queued").values())
        if reasons:
            print("queued: " + ", ".join(f"{n} ({reason})" for reason, n in reasons.most_common()))

    def _show_bad(self, name: str) -> None:
        """Failures by cause: one cause of a hundred stages is one entry."""
        bad = self._in(name)
        causes: dict[str, list[str]] = {}
        for key, state in bad.items():
            causes.setdefault(_without_ids(state.cause), []).append(key)
        for keys in sorted(causes.values(), key=len, reverse=True):
            first = keys[0]
            print(f"{name}: {len(keys)} x {self.kinds[first]}: {bad[first].cause}")
            print(f"  first: {self.names[first]}; log: {self.store.log(first)}")
            for line in self._last_lines(first, bad[first]):
                print(f"    {line}")
            print(f"  run again: {self.study['command']}")
        if bad and (blocked := self.count("blocked")):
            print(f"  {blocked} stages that need them are not run")

    def _last_lines(self, key: str, state: State) -> Sequence[str]:
        """The end of what a stage has printed, or else of what its job has."""
        for path in (self.store.log(key), *self._batch_logs(state)):
            try:
                lines = path.read_text(errors="replace").splitlines()
            except OSError:
                continue
            if lines:
                return lines[-LAST_LINES:]
        return []

    def _batch_logs(self, state: State) -> list[Path]:
        if not state.job:
            return []
        name = state.job.split(":")[2] if ":" in state.job else state.job
        return sorted(self.store.root.glob(f"submissions/*/batch/{name}_0_log.err"))[-1:]


def _without_ids(cause: str) -> str:
    """Causes that differ by a job's number or a stage's log only are one."""
    return " ".join("#" if any(c.isdigit() for c in word) else word for word in cause.split())


def _progress(facts: Mapping[str, Any]) -> str:
    from .progress import duration

    if "step" not in facts:
        return ""
    return (f": step {facts['step']} of {facts['steps']}, {facts['images_per_second']:.0f} "
            f"images/s, loss {facts['loss']:.3f}, {duration(facts['eta_seconds'])} left")


run = door(main)

if __name__ == "__main__":
    run()
