"""The inline launcher: worker processes on this machine, for as long as the command runs.

A stage runs in a process that is not the sweep's, so that one that is killed (out of memory, say)
costs its own cells only. Workers share nothing but the store.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import Failure
from ..stages import Stage
from ..store import Store
from .schedule import Schedule

# Keeps large activations instead of returning them to the kernel at each operation: measured 12 %
# of a step on a ResNet-18 at 32x32.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
STOP_SECONDS = 30.0

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

    process: subprocess.Popen[bytes]
    log: Path
    stage: Stage | None = None
    ready: bool = False
    partial: bytes = b""

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send one line; a worker that died is noticed where its output is read."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def events(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The whole lines that have arrived."""
        *lines, self.partial = (self.partial + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


def run(stages: Sequence[Stage], store: Store, settings: Mapping[str, Any], workers: int,
        logs: Path, report: Report) -> Outcome:
    """Do `stages` (inputs first) with `workers` processes; `report` gets every event.

    Ctrl-C stops cleanly: running stages checkpoint, and the outcome says so.
    """
    if not stages:
        return Outcome()
    return _Pool(stages, store, settings, min(workers, len(stages)), logs, report).run()


class _Pool:
    """The workers and what each is doing."""

    def __init__(self, stages: Sequence[Stage], store: Store, settings: Mapping[str, Any],
                 workers: int, logs: Path, report: Report) -> None:
        self.store, self.settings, self.logs, self.report = store, settings, logs, report
        self.schedule = Schedule(stages)
        self.outcome = Outcome()
        self.selector = selectors.DefaultSelector()
        logs.mkdir(parents=True, exist_ok=True)
        self.processes = [self._start(number) for number in range(workers)]

    def run(self) -> Outcome:
        """The event loop; returns when nothing is left that can be done."""
        try:
            while self.schedule.left:
                self._assign()
                self._listen()
        except KeyboardInterrupt:
            self.outcome.interrupted = True
        finally:
            self._stop()
        return self.outcome

    def _start(self, number: int) -> _Process:
        log = self.logs / f"worker-{number}.log"
        environment = {**os.environ, **MALLOC, "OMP_NUM_THREADS": str(self.settings["threads"])}
        with open(log, "a") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "harness.worker"], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=file, env=environment,
                # its own session: Ctrl-C reaches the sweep alone, which then asks it to stop
                start_new_session=True)
        worker = _Process(process, log)
        worker.tell(self.settings)
        assert process.stdout is not None
        self.selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _assign(self) -> None:
        for worker in self.processes:
            if worker.stage is None and (stage := self.schedule.next()):
                worker.stage = stage
                inputs = {role: {"kind": parent.kind, "key": parent.key}
                          for role, parent in stage.inputs.items()}
                self.report({"event": "started", "key": stage.key})
                worker.tell({"stage": stage.to_json(), "inputs": inputs})

    def _listen(self) -> None:
        for key, _ in self.selector.select(timeout=0.5):
            data = os.read(key.fd, 1 << 16)
            if not data:
                self._died(key.data)
            for event in key.data.events(data):
                self._handle(key.data, event)

    def _handle(self, worker: _Process, event: dict[str, Any]) -> None:
        stage, kind = worker.stage, event["event"]
        worker.ready = True
        if kind in ("ready", "progress") or stage is None:
            self.report(event)
            return
        worker.stage = None
        if kind == "busy":
            self.schedule.later(stage)
        elif kind == "done":
            self.outcome.ran += bool(event["ran"])
            self.schedule.done(stage)
        elif kind == "failed":
            self._failed(stage, event["cause"])
        self.report(event)

    def _failed(self, stage: Stage, cause: str) -> None:
        """Record a failure; what needed the stage is not run."""
        self.outcome.failed[stage.key] = cause
        for key in self.schedule.failed(stage):
            self.outcome.blocked[key] = stage.key
            self.report({"event": "blocked", "key": key})

    def _died(self, worker: _Process) -> None:
        """A worker ended by itself: its stage failed; another worker takes its place."""
        assert worker.process.stdout is not None
        self.selector.unregister(worker.process.stdout)
        code = worker.process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        memory = " (out of memory?)" if code == -signal.SIGKILL else ""
        cause = f"the worker was {how}{memory}; see {worker.log}"
        stage, worker.stage = worker.stage, None
        if stage is None or not worker.ready:
            raise Failure(f"a worker does not start: it {how}; see {worker.log}")
        self.store.fail(stage.key, {"kind": stage.kind, "key": stage.key, "cause": cause,
                                    "traceback": "", "time": ""})
        self._failed(stage, cause)
        self.report({"event": "failed", "key": stage.key, "cause": cause})
        number = self.processes.index(worker)
        self.processes[number] = self._start(number)

    def _stop(self) -> None:
        """Close every worker's input; they checkpoint and end."""
        for worker in self.processes:
            if self.outcome.interrupted:
                worker.process.terminate()
            _close(worker.process.stdin)
        for worker in self.processes:
            try:
                worker.process.wait(timeout=STOP_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                worker.process.kill()
                worker.process.wait()
            _close(worker.process.stdout)
        self.selector.close()


def _close(stream: IO[bytes] | None) -> None:
    try:
        if stream is not None:
            stream.close()
    except BrokenPipeError:
        pass
