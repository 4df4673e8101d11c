"""What a sweep says while it plans, runs and ends: a live view on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .estimate import Price
from .launch.inline import Outcome
from .plan import Plan
from .stages import Stage, in_order

LINE_SECONDS = 20.0


def print_plan(plan: Plan, cost: Price) -> None:
    """The plan in a few lines: what there is, what is paid for, what is to run, at what price."""
    study = plan.study
    print(f"{study.name} at {study.scale} scale: {len(study.rows)} methods x "
          f"{len(study.conditions)} conditions x {len(study.seeds)} seeds x "
          f"{len(study.evaluations)} evaluations = {len(plan.cells)} cells")
    for kind, total, todo in plan.counts():
        print(f"  {kind:9} {total:6} stages  {total - todo:6} paid for  {todo:6} to run")
    for rows, number in _shared(plan).items():
        print(f"  shared: {number} pre-trainings are computed once for {' and '.join(rows)}")
    if plan.todo:
        print(f"  estimate: {_price(cost)}")
        if cost.wall_seconds is None:
            print(f"  the scale says: {study.config['scale']['takes']}")


def _shared(plan: Plan) -> Counter[tuple[str, ...]]:
    return Counter(tuple(rows) for stage, rows in plan.shared() if "training" in stage.params)


def _price(cost: Price) -> str:
    if cost.wall_seconds is None or cost.disk_bytes is None or cost.work_seconds is None:
        return "unknown, since this store has measured no stage of each kind yet"
    return (f"{duration(cost.wall_seconds)} ({duration(cost.work_seconds)} of work), "
            f"{cost.disk_bytes / 2**20:,.0f} MB of disk, from {cost.measured} measured stages")


def duration(seconds: float) -> str:
    """"3 h 20 min", "14 min", "40 s"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def print_failures(plan: Plan, outcome: Outcome, damaged: Mapping[str, str],
                   command: str) -> bool:
    """Say what failed, grouped by cause, with the command that runs just that again."""
    bad = {**outcome.failed, **damaged}
    if not bad:
        return False
    stages = {stage.key: stage for stage in plan.stages}
    needs = [(cell, {stage.key for stage in in_order([cell.stage])}) for cell in plan.cells]
    for cause, number in Counter(bad.values()).items():
        keys = {key for key, value in bad.items() if value == cause}
        waiting = sum(1 for root in outcome.blocked.values() if root in keys)
        cells = [cell for cell, needed in needs if needed & keys]
        rows = list(dict.fromkeys(cell.row.id for cell in cells))
        kinds = Counter(stages[key].kind for key in keys if key in stages)
        what = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        after = f", {waiting} stages that need them not run" if waiting else ""
        print(f"failed: {number} stages ({what}) of {', '.join(rows)}: {cause}{after}",
              file=sys.stderr)
    print(f"run just these again (all else is paid for): {command}", file=sys.stderr)
    return True


class Progress:
    """Shows the events of a run; call it with each event."""

    def __init__(self, plan: Plan) -> None:
        self.stages = {stage.key: stage for stage in plan.todo}
        self.names = _names(plan)
        self.running: dict[str, dict[str, Any]] = {}
        self.causes: set[str] = set()
        self.done = self.bad = 0
        self.started = self._said = time.monotonic()
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False, transient=True) \
            if self.console.is_terminal and self.stages else None

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()
        if self.stages:
            print(f"ran {self.done} of {len(self.stages)} stages in "
                  f"{duration(time.monotonic() - self.started)}")

    def __call__(self, event: dict[str, Any]) -> None:
        key, kind = event.get("key", ""), event["event"]
        if kind in ("started", "progress"):
            self.running.setdefault(key, {}).update(event)
        elif kind in ("done", "failed", "blocked", "busy", "interrupted"):
            self.running.pop(key, None)
            self.done += kind == "done"
            self.bad += kind in ("failed", "blocked")
        if kind == "failed" and event["cause"] not in self.causes:
            self.causes.add(event["cause"])
            self.console.print(f"failed: {self.name(key)}: {event['cause']}", markup=False,
                               highlight=False, soft_wrap=True)
        self._show()

    def name(self, key: str) -> str:
        """A stage as a person calls it: "pretrain DnC, uncurated, seed 1"."""
        return self.names.get(key, key[:12])

    def _show(self) -> None:
        if self.live:
            self.live.update(self._table(), refresh=True)
        elif time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            busy = "; ".join(self._line(key) for key in self.running)
            print(f"{self.done} of {len(self.stages)} stages done, {self.bad} failed, "
                  f"{duration(self._said - self.started)}; now {busy}", flush=True)

    def _line(self, key: str) -> str:
        state = self.running[key]
        if "step" not in state:
            return self.name(key)
        return (f"{self.name(key)} (step {state['step']} of {state['steps']}, "
                f"{state['images_per_second']:.0f} images/s, loss {state['loss']:.3f}, "
                f"{duration(state['eta_seconds'])} left)")

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        spent = time.monotonic() - self.started
        eta = f", about {duration(spent / self.done * (len(self.stages) - self.done))} left" \
            if self.done > 3 else ""
        table.add_row(f"[bold]{self.done} of {len(self.stages)} stages[/bold], {self.bad} failed, "
                      f"{duration(spent)}{eta}")
        for key in self.running:
            table.add_row(f"  {self._line(key)}")
        return table


def _names(plan: Plan) -> dict[str, str]:
    """Every stage by the first cell that needs it."""
    names: dict[str, str] = {}
    for cell in plan.cells:
        for stage in in_order([cell.stage]):
            if stage.key not in names:
                names[stage.key] = (f"{_what(stage)} for {cell.row.label}, "
                                    f"{cell.condition.label}, seed {cell.seed}")
    return names


def _what(stage: Stage) -> str:
    if stage.kind == "evaluate":
        return str(stage.params["evaluation"])
    if stage.kind == "pretrain":
        expert = f" expert {stage.params['subset']}" if "subset" in stage.params else ""
        return f"pretrain {stage.params['method']}{expert}"
    return stage.kind
