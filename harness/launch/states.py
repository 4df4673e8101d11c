"""What every stage of a study is doing, from files and one question to the batch system.

done      in the store
running   a living worker has claimed it
queued    its job waits, or it waits for its turn in a job that runs
failed    its last attempt failed, and nobody tries again
lost      its job ended without the artifact and without saying why (killed, cancelled, node lost)
vanished  its job completed, as the batch system says, and yet the artifact is not there
blocked   an input failed, was lost or vanished
missing   nobody was asked to compute it
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..claims import is_alive, read_owner
from ..errors import Failure, UserError
from ..store import Store, read_json
from . import batch
from .ledger import Submission, submissions
from .local import living as living_here

NAMES = ("done", "running", "queued", "failed", "lost", "vanished", "blocked", "missing")
GONE = ("lost", "vanished")
BAD = ("failed", *GONE)


@dataclass(frozen=True)
class State:
    """One stage: its state, why, the job that has it, and how far it is."""

    name: str
    cause: str = ""
    job: str = ""
    owner: Mapping[str, Any] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)


Stages = Sequence[tuple[str, str, Sequence[str]]]


def look(folder: Path) -> dict[str, State]:
    """The state of every stage of the study in `folder`."""
    study = read_json(folder / "study.json")
    return Look(Store(folder.parent / "store"), study["stages"]).states


class Look:
    """One look at stages (key, kind, keys of the inputs; inputs first), whatever their number.

    Where the batch system does not answer, what was submitted is taken for queued; with `strict`,
    that is an error.
    """

    def __init__(self, store: Store, stages: Stages, strict: bool = False) -> None:
        self.store = store
        self.silent = ""
        committed = store.committed()
        self.open = [key for key, _, _ in stages if key not in committed]
        self.failures = _failures(store, self.open)
        self.placed = _placed(store, self.open)
        self.living: dict[str, batch.Living] = {}
        try:
            self.living = _living(self.placed)
        except (UserError, Failure) as error:
            if strict:
                raise
            self.silent = str(error)
        self.states: dict[str, State] = {}
        waiting = set(self.open)
        claimed = _claimed(store, waiting)
        for key, _, parents in stages:
            self.states[key] = State("done") if key not in waiting else \
                self._running(key) if key in claimed else self._idle(key, parents)
        self._say_how_jobs_ended()

    def job_id(self, key: str) -> str:
        """The job that was given a stage; "" if none was."""
        submission = self.placed.get(key)
        return submission.ids.get(submission.job_of[key], "") if submission else ""

    def _running(self, key: str) -> State:
        root = self.store.root
        try:
            progress = read_json(root / "progress" / f"{key}.json")
        except FileNotFoundError:
            progress = {}
        return State("running", "", self.job_id(key),
                     read_owner(root / "claims" / f"{key}.json") or {}, progress)

    def _idle(self, key: str, parents: Sequence[str]) -> State:
        job = self.job_id(key)
        failure = self.failures.get(key)
        bad = any(self.states[parent].name in (*BAD, "blocked")
                  for parent in parents if parent in self.states)  # others are in the store
        if failure and (bad or not failure.get("input")):
            return State("blocked" if failure.get("input") else "failed", failure["cause"], job)
        living = self.living.get(job)
        if living:
            reason = living.reason if living.waits else "its turn in the job"
            ending = self.placed[key].cancelled
            return State("queued", "cancelled: its job is ending" if ending else reason, job)
        if self.silent and job and ":" not in job:
            return State("queued", f"unknown: {self.silent}", job)
        if bad:
            return State("blocked", "", job)
        submission = self.placed.get(key)
        if submission is None or submission.cancelled:
            return State("missing", "", job)
        return State("lost", "its job was never accepted" if not job else "", job)

    def _say_how_jobs_ended(self) -> None:
        lost = {key: state for key, state in self.states.items()
                if state.name == "lost" and state.job}
        how = batch.ended(state.job for state in lost.values() if ":" not in state.job)
        for key, state in lost.items():
            ending = how.get(state.job, "state unknown").split(" by ")[0]
            logs = [self.placed[key].batch_log(state.job, kind) for kind in ("err", "out")]
            wrote = any(log.exists() and log.stat().st_size for log in logs)
            shared = "" if wrote or "CANCELLED" in ending else \
                f"; it wrote no log: can its node write {logs[0].parent}?"
            cause = f"job {state.job} ended ({ending}) without the artifact{shared}"
            # an orphan of a killed step, a full disk that swallowed writes, an artifact removed
            completed = ending.startswith("COMPLETED")
            self.states[key] = replace(state, cause=cause,
                                       name="vanished" if completed else state.name)


def _failures(store: Store, keys: Sequence[str]) -> dict[str, Any]:
    """key -> its failure, reading only those that are asked for."""
    folder = store.root / "failures"
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    found = {}
    for key in keys:
        if f"{key}.json" in present:
            try:
                found[key] = read_json(folder / f"{key}.json")
            except FileNotFoundError:  # committed meanwhile
                continue
    return found


def _claimed(store: Store, keys: set[str]) -> set[str]:
    """The keys that a living worker has claimed."""
    folder = store.root / "claims"
    names = os.listdir(folder) if folder.is_dir() else []
    return {name[:-5] for name in names
            if name.endswith(".json") and name[:-5] in keys and is_alive(folder / name)}


def _placed(store: Store, keys: Sequence[str]) -> dict[str, Submission]:
    """key -> the latest submission that has it."""
    left, found = set(keys), {}
    for submission in submissions(store) if left else ():
        for key in left & set(submission.job_of):
            found[key] = submission
        left -= set(found)
        if not left:
            break
    return found


def _living(placed: Mapping[str, Submission]) -> dict[str, batch.Living]:
    """The jobs of these stages that have not ended."""
    involved = {submission.name: submission for submission in placed.values()}
    ids = {submission.ids.get(submission.job_of[key], "")
           for key, submission in placed.items()} - {""}
    local = {i for i in ids if ":" in i}
    names = [name for submission in involved.values() for _, name in submission.uncertain]
    found = living_here(local)
    if ids - local or names:
        found |= batch.living(ids - local, names)
        for submission in involved.values():
            _recover(submission, found)
    return found


def _recover(submission: Submission, found: Mapping[str, batch.Living]) -> None:
    """Write down the ids of arrays whose submitter died before it could."""
    known = {job.split("_")[0] for job in submission.all_ids}
    for number, name in submission.uncertain:
        root = {job.split("_")[0] for job, living in found.items() if living.name == name} - known
        if len(root) == 1 and number is not None:
            base, members = root.pop(), submission.facts["arrays"][number]
            ids = [base] if len(members) == 1 else [f"{base}_{i}" for i in range(len(members))]
            submission.note(array=number, ids=ids)
