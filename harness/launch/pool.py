"""Worker processes that share one machine, or one allocation on a node, and the stages they do.

A stage runs in a process that is not the caller's, so that one that is killed (out of memory, say)
costs its own cells only. Workers share nothing but the store.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import Failure
from ..stages import Stage
from ..store import Store, now
from . import processes
from .inputs import Inputs, Missing, Waiting
from .schedule import Schedule

STOP_SECONDS = 30.0
# After SIGTERM a batch system kills: nothing new is begun this long, in case it does not.
TERM_SECONDS = 120.0

Report = Callable[[dict[str, Any]], None]


@dataclass
class Outcome:
    """How a run of stages ended: keys that failed, by cause, and keys not run because of them."""

    ran: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


@dataclass
class _Process:
    """One worker process and the stage it is doing."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    stage: Stage | None = None
    ready: bool = False
    interrupted: bool = False
    partial: bytes = b""

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send one line; a worker that died is noticed where its output is read."""
        processes.tell(self.process, message)

    def events(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The whole lines that have arrived."""
        *lines, self.partial = (self.partial + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


class Pool:
    """The workers and what each is doing.

    `retries`: how often a stage is begun again after its worker was killed; `gpus`: the devices
    to deal to the workers, one each (none: all see what this process sees).
    """

    def __init__(self, stages: Sequence[Stage], store: Store, settings: Mapping[str, Any],
                 workers: int, logs: Path, report: Report, *, retries: int = 0,
                 gpus: Sequence[str] = ()) -> None:
        self.store, self.settings, self.logs, self.report = store, settings, logs, report
        self.retries, self.gpus = retries, gpus
        self.schedule = Schedule(stages)
        self.inputs = Inputs(store, self.schedule.stages)
        self.outcome = Outcome()
        self.deaths: Counter[str] = Counter()
        self.quiet_until = 0.0
        self.selector = selectors.DefaultSelector()
        logs.mkdir(parents=True, exist_ok=True)
        self.processes: list[_Process | None] = [None] * min(workers, len(stages))

    def run(self) -> Outcome:
        """The event loop; returns when nothing is left that can be done."""
        try:
            while self.schedule.left:
                if time.monotonic() >= self.quiet_until:
                    self._assign()
                self._listen()
        except KeyboardInterrupt:
            self.outcome.interrupted = True
        finally:
            self.stop()
        return self.outcome

    def terminated(self) -> None:
        """Somebody ends this process by SIGTERM: checkpoint, and begin nothing for a while."""
        self.quiet_until = time.monotonic() + TERM_SECONDS
        for worker in self._living():
            worker.process.terminate()

    def stop(self) -> None:
        """Close every worker's input; they checkpoint and end. Safe to call again."""
        for worker in self._living():
            if self.schedule.left:
                worker.process.terminate()
            _close(worker.process.stdin)
        for worker in self._living():
            try:
                worker.process.wait(timeout=STOP_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                worker.process.kill()
                worker.process.wait()
            self._hear_out(worker)
            _close(worker.process.stdout)
        self.selector.close()

    def _hear_out(self, worker: _Process) -> None:
        """What a worker said while it was asked to stop: a stage may have ended well meanwhile."""
        if worker.process.stdout is None or worker.process.stdout.closed:
            return
        descriptor = worker.process.stdout.fileno()
        os.set_blocking(descriptor, False)  # somebody whom the worker started may hold the pipe
        try:
            while data := os.read(descriptor, 1 << 16):
                for event in worker.events(data):
                    if worker.stage and event["event"] in ("done", "interrupted"):
                        self.outcome.ran += bool(event.get("ran"))
                        worker.stage = None
                        self.report(event)
        except BlockingIOError:
            pass

    def _living(self) -> list[_Process]:
        return [worker for worker in self.processes if worker]

    def _start(self, number: int) -> _Process:
        log = self.logs / f"worker-{number}.log"
        gpus = self.gpus[number % len(self.gpus)] if self.gpus else None
        process = processes.start(self.settings, log, gpus)
        worker = _Process(number, process, log)
        assert process.stdout is not None
        self.selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _assign(self) -> None:
        for number, worker in enumerate(self.processes):
            if worker and (worker.stage or worker.interrupted):
                continue
            if not (stage := self._next()):
                return
            if not worker:
                worker = self.processes[number] = self._start(number)
            worker.stage = stage
            inputs = {role: {"kind": parent.kind, "key": parent.key}
                      for role, parent in stage.inputs.items()}
            self.report({"event": "started", "key": stage.key})
            worker.tell({"stage": stage.to_json(), "inputs": inputs})

    def _next(self) -> Stage | None:
        """The next stage whose inputs, also those that others compute, are in the store."""
        while stage := self.schedule.next():
            try:
                self.inputs.check(stage)
            except Waiting:
                self.schedule.later(stage)
            except Missing as error:
                self._note(stage.key, str(error), error.key)
                self._failed(stage, str(error))
            else:
                return stage
        return None

    def _listen(self) -> None:
        for key, _ in self.selector.select(timeout=0.5):
            # or a handler that ends this process comes between what was read and saying it
            with processes.unsignalled():
                data = os.read(key.fd, 1 << 16)
                for event in key.data.events(data):
                    self._handle(key.data, event)
            if not data:
                self._died(key.data)

    def _handle(self, worker: _Process, event: dict[str, Any]) -> None:
        stage, kind = worker.stage, event["event"]
        worker.ready = True
        if kind in ("ready", "progress") or stage is None:
            self.report(event)
            return
        worker.stage = None
        if kind in ("busy", "interrupted"):
            worker.interrupted = kind == "interrupted"
            self.schedule.later(stage)
        elif kind == "done":
            self.outcome.ran += bool(event["ran"])
            self.schedule.done(stage)
        elif kind == "failed":
            self._failed(stage, event["cause"])
            return
        elif kind == "lost":
            self._killed(stage, event["cause"], self.store.log(stage.key))
            return
        self.report(event)

    def _failed(self, stage: Stage, cause: str) -> None:
        """Report a failure; what needed the stage is not run."""
        self.outcome.failed[stage.key] = cause
        for key in self.schedule.failed(stage):
            self.outcome.blocked[key] = stage.key
            # for those who wait for it in other jobs
            self._note(key, f"input {stage.kind} {stage.key[:12]} failed: {cause}", stage.key)
            self.report({"event": "blocked", "key": key})
        self.report({"event": "failed", "key": stage.key, "cause": cause})

    def _died(self, worker: _Process) -> None:
        """A worker ended by itself: its stage is begun again, or failed if that is in vain."""
        assert worker.process.stdout is not None
        self.selector.unregister(worker.process.stdout)
        code = worker.process.wait()
        for stream in (worker.process.stdin, worker.process.stdout):
            _close(stream)
        self.processes[worker.number] = None
        stage = worker.stage
        if code == 0 and worker.ready or time.monotonic() < self.quiet_until:  # asked to stop
            if stage:
                self.schedule.later(stage)
            return
        log = self.store.log(stage.key) if stage and worker.ready else worker.log
        how = processes.ended_how(code)
        if stage is None or not worker.ready and (code >= 0 or not self.retries):
            raise Failure(f"a worker does not start: it {how}; see {log}")
        self._killed(stage, f"the worker {how}", log)

    def _killed(self, stage: Stage, what: str, log: Path) -> None:
        """A process of a stage is gone: it is begun again, unless that was in vain too often."""
        self.deaths[stage.key] += 1
        if self.deaths[stage.key] <= self.retries:
            self.schedule.later(stage)
            return
        times = f" {self.deaths[stage.key]} times" if self.retries else ""
        cause = f"{what}{times}; see {log}"
        self._note(stage.key, cause)
        self._failed(stage, cause)

    def _note(self, key: str, cause: str, source: str = "") -> None:
        """Write down a failure that no worker could; `source`: the key of the input at fault."""
        found = {"kind": self.schedule.stages[key].kind, "key": key, "cause": cause,
                 "traceback": "", "time": now()}
        self.store.fail(key, {**found, "input": source} if source else found)


def _close(stream: IO[bytes] | None) -> None:
    try:
        if stream is not None:
            stream.close()
    except BrokenPipeError:
        pass
