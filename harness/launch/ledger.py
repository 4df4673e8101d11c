"""The ledger: what was given to a batch system, so that anybody can find, follow and cancel it.

    <store>/submissions/<id>/submission.json   the intent, whole before the first job exists
    <store>/submissions/<id>/ids.jsonl         a line before and after each array is submitted
    <store>/submissions/<id>/jobs/<n>.json     the stages of job n, as its allocation reads them
    <store>/submissions/<id>/batch/            the batch system's scripts and logs
    <store>/submissions/<id>/workers/<n>/      logs of the worker processes of job n

A line of ids.jsonl is {"array": a, "name": ...} before submission, {"array": a, "ids": [...]} after
it, {"array": a, "refused": words}, or {"cancelled": time, "by": who}.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..stages import Stage
from ..store import Store, now, read_json, write_json
from .units import Job


@dataclass(frozen=True)
class Submission:
    """One submission as it was written down; what became of its jobs is asked of the system."""

    folder: Path
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its id."""
        return self.folder.name

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """What ids.jsonl says; a torn last line (a crash) is none."""
        found = []
        try:
            text = (self.folder / "ids.jsonl").read_text()
        except FileNotFoundError:
            return []
        for line in text.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    @cached_property
    def ids(self) -> dict[int, str]:
        """Number of a job -> its id."""
        found: dict[int, str] = {}
        for line in self.lines:
            if "ids" in line and line["array"] is not None:
                found.update(zip(self.facts["arrays"][line["array"]], line["ids"], strict=True))
        return found

    @property
    def all_ids(self) -> list[str]:
        """Every id, the collector's too."""
        return [i for line in self.lines for i in line.get("ids", ())]

    @property
    def uncertain(self) -> list[tuple[int | None, str]]:
        """Arrays (number, name) of which nobody knows if they were accepted: the asker died."""
        answered = {line["array"] for line in self.lines if "ids" in line or "refused" in line}
        return [(line["array"], line["name"]) for line in self.lines
                if "name" in line and line["array"] not in answered]

    @cached_property
    def job_of(self) -> dict[str, int]:
        """Key of a stage -> number of its job."""
        return {key: job["number"] for job in self.facts["jobs"] for key in job["stages"]}

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it as a whole."""
        return any("cancelled" in line for line in self.lines)

    def note(self, **facts: Any) -> None:
        """Append a line, on disk before this returns."""
        with open(self.folder / "ids.jsonl", "a") as file:
            file.write(json.dumps(facts) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.__dict__.pop("lines", None)
        self.__dict__.pop("ids", None)

    def batch_log(self, job_id: str, kind: str = "err") -> Path:
        """What a job itself has printed (not its stages)."""
        name = job_id.split(":")[2] if ":" in job_id else job_id
        return self.folder / "batch" / f"{name}_0_log.{kind}"


def write(store: Store, facts: Mapping[str, Any], jobs: Sequence[Job],
          arrays: Sequence[Sequence[Job]], settings: Mapping[str, Any]) -> Submission:
    """Write the intent: after this, and before any job exists, everything is known."""
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    folder = store.root / "submissions" / name
    for part in ("jobs", "batch", "workers"):
        (folder / part).mkdir(parents=True)
    for job in jobs:
        (folder / "jobs" / f"{job.number}.json").write_text(json.dumps(describe(job)))
    write_json(folder / "settings.json", settings)
    whole = {**facts, "id": name, "created": now(), "user": getpass.getuser(),
             "host": socket.gethostname(), "arrays": [[j.number for j in a] for a in arrays],
             "jobs": [{"number": job.number, "stages": [s.key for s in job.stages],
                       "after": sorted(job.after), "resources": job.resources.to_json()}
                      for job in jobs]}
    write_json(folder / "submission.json", whole)
    return Submission(folder, whole)


def describe(job: Job) -> dict[str, Any]:
    """A job as its allocation reads it."""
    return {"side_by_side": job.side_by_side, "resources": job.resources.to_json(),
            "stages": [{**stage.to_json(), "from": {
                role: [parent.kind, parent.key] for role, parent in stage.inputs.items()}}
                for stage in job.stages]}


def stages_of(described: Mapping[str, Any]) -> list[Stage]:
    """The stages of a described job; an input that is not among them has a kind and a key only."""
    made: dict[str, Stage] = {}
    for entry in described["stages"]:
        inputs = {role: made.get(key) or Stage.known(kind, key)
                  for role, (kind, key) in entry["from"].items()}
        made[entry["key"]] = Stage(entry["kind"], entry["params"], inputs)
        assert made[entry["key"]].key == entry["key"], entry["key"]
    return list(made.values())


def submissions(store: Store) -> Iterator[Submission]:
    """Everything that was submitted from this store, latest first."""
    root = store.root / "submissions"
    names = sorted(os.listdir(root), reverse=True) if root.is_dir() else []
    for name in names:
        path = root / name / "submission.json"
        if path.exists():
            yield Submission(root / name, read_json(path))


@contextmanager
def submitting(store: Store) -> Iterator[None]:
    """One at a time: whoever comes second sees the jobs of the first."""
    folder = store.root / "submissions"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
