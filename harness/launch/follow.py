"""`wait=true`: follow submitted jobs to their end, with the same progress as inline."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..plan import Plan
from ..store import Store
from .pool import Outcome, Report
from .states import BAD, GONE, Look, State

# Between two looks: an ended job's files may be seen late, and Slurm wants to be asked seldom.
LOOK_SECONDS = 2.0
LOOK_SECONDS_LARGE = 15.0
LARGE = 500
# A job that ended without its artifact is believed lost after this long.
LOST_SECONDS = 10.0


def follow(plan: Plan, store: Store, report: Report) -> Outcome:
    """Report what happens until no job is left that could do a stage of `plan.todo`."""
    stages = [(s.key, s.kind, [p.key for p in s.inputs.values()]) for s in plan.todo]
    told: dict[str, str] = {}
    quiet_since = time.monotonic()
    while True:
        states = Look(store, stages).states
        for key, state in states.items():
            _tell(key, state, told, report)
        if any(state.name in ("queued", "running") for state in states.values()):
            quiet_since = time.monotonic()
        elif all(state.name not in GONE for state in states.values()) \
                or time.monotonic() - quiet_since > LOST_SECONDS:
            return _outcome(plan, states)
        report({"event": "waiting"})
        time.sleep(LOOK_SECONDS if len(stages) < LARGE else LOOK_SECONDS_LARGE)


def _tell(key: str, state: State, told: dict[str, str], report: Report) -> None:
    """An event for what is new of a stage."""
    if state.name == "running":
        report({"event": "progress", "key": key, **state.progress})
    elif told.get(key) != state.name:
        event = {"done": "done", "failed": "failed", "blocked": "blocked"}.get(state.name)
        if event:
            report({"event": event, "key": key, "cause": state.cause})
        elif told.get(key) == "running":
            report({"event": "interrupted", "key": key})
    told[key] = state.name


def _outcome(plan: Plan, states: Mapping[str, State]) -> Outcome:
    outcome = Outcome(ran=sum(state.name == "done" for state in states.values()))
    for stage in plan.todo:
        state = states[stage.key]
        if state.name in BAD:
            outcome.failed[stage.key] = state.cause
        elif state.name in ("blocked", "missing"):
            roots = [outcome.blocked.get(p.key, p.key) for p in stage.inputs.values()
                     if p.key in outcome.blocked or p.key in outcome.failed]
            outcome.blocked[stage.key] = roots[0] if roots else stage.key
    return outcome
