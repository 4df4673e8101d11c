"""The inline launcher: worker processes on this machine, for as long as the command runs.

A stage runs in a process of its own kind, so that one that is killed (out of memory, say) costs its
own cells only. Workers share nothing but the store.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..stages import Stage
from ..store import Store

# Keeps large activations instead of returning them to the kernel at each operation: measured 12 %
# of a step on a ResNet-18 at 32x32.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
BUSY_SECONDS = 1.0


@dataclass
class Outcome:
    """How a run of stages ended."""

    ran: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


@dataclass
class _Process:
    """One worker process and the stage it is doing."""

    process: subprocess.Popen[str]
    log: Path
    stage: Stage | None = None
    ready: bool = False


def run(stages: Sequence[Stage], store: Store, settings: Mapping[str, Any], workers: int,
        logs: Path, report: Callable[[dict[str, Any]], None]) -> Outcome:
    """Do `stages` (inputs first) with `workers` processes; `report` gets every event.

    Stops cleanly on KeyboardInterrupt: running stages checkpoint, and the outcome says so.
    """
    pool = _Pool(stages, store, settings, min(workers, len(stages)), logs, report)
    return pool.run()


class _Pool:
    """The schedule: which stages wait, which are ready, which worker does what."""

    def __init__(self, stages: Sequence[Stage], store: Store, settings: Mapping[str, Any],
                 workers: int, logs: Path, report: Callable[[dict[str, Any]], None]) -> None:
        self.store, self.settings, self.logs, self.report = store, settings, logs, report
        self.waiting = {stage.key: stage for stage in stages}
        self.retry_at: dict[str, float] = {}
        self.priority = _critical_path(stages)
        self.outcome = Outcome()
        self.selector = selectors.DefaultSelector()
        logs.mkdir(parents=True, exist_ok=True)
        self.processes = [self._start(number) for number in range(workers)]

    def run(self) -> Outcome:
        """The event loop; returns when nothing is left that can be done."""
        try:
            while self.waiting or any(p.stage for p in self.processes):
                self._assign()
                if not self.waiting and not any(p.stage for p in self.processes):
                    break
                self._listen(timeout=BUSY_SECONDS / 2)
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
                stdout=subprocess.PIPE, stderr=file, text=True, env=environment,
                # its own session: Ctrl-C reaches the sweep alone, which then asks it to stop
                start_new_session=True)
        assert process.stdin is not None
        process.stdin.write(json.dumps(dict(self.settings)) + "\n")
        process.stdin.flush()
        worker = _Process(process, log)
        assert process.stdout is not None
        self.selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _assign(self) -> None:
        self._drop_blocked()
        for worker in self.processes:
            if worker.stage is None and (stage := self._next()):
                worker.stage = self.waiting.pop(stage.key)
                self._send(worker, stage)

    def _drop_blocked(self) -> None:
        """A stage whose input failed is not run, and says which input that was."""
        bad = {**self.outcome.failed, **self.outcome.blocked}
        for key, stage in list(self.waiting.items()):
            cause = next((p.key for p in stage.inputs.values() if p.key in bad), None)
            if cause is not None:
                self.outcome.blocked[key] = self.outcome.blocked.get(cause, cause)
                bad[key] = cause
                del self.waiting[key]
                self.report({"event": "blocked", "key": key})

    def _next(self) -> Stage | None:
        """The ready stage with the longest way still to go."""
        busy = {p.stage.key for p in self.processes if p.stage}
        unfinished = busy | set(self.waiting)
        ready = [stage for stage in self.waiting.values()
                 if self.retry_at.get(stage.key, 0.0) <= time.monotonic()
                 and not any(parent.key in unfinished for parent in stage.inputs.values())]
        return max(ready, key=lambda stage: self.priority[stage.key], default=None)

    def _send(self, worker: _Process, stage: Stage) -> None:
        inputs = {role: {"kind": parent.kind, "key": parent.key}
                  for role, parent in stage.inputs.items()}
        assert worker.process.stdin is not None
        self.report({"event": "started", "key": stage.key})
        try:
            worker.process.stdin.write(
                json.dumps({"stage": stage.to_json(), "inputs": inputs}) + "\n")
            worker.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; its closed output is handled where events are read

    def _listen(self, timeout: float) -> None:
        for key, _ in self.selector.select(timeout):
            stream: IO[str] = key.fileobj  # type: ignore[assignment]  # registered by _start
            line = stream.readline()
            if line:
                self._handle(key.data, json.loads(line))
            else:
                self._died(key.data, stream)

    def _handle(self, worker: _Process, event: dict[str, Any]) -> None:
        stage = worker.stage
        if event["event"] in ("ready", "progress") or stage is None:
            self.report(event)
            return
        worker.stage = None
        if event["event"] == "busy":
            self.waiting[stage.key] = stage
            self.retry_at[stage.key] = time.monotonic() + BUSY_SECONDS
        elif event["event"] == "failed":
            self.outcome.failed[stage.key] = event["cause"]
        elif event["event"] == "done":
            self.outcome.ran += bool(event.get("ran"))
        self.report(event)

    def _died(self, worker: _Process, stream: IO[str]) -> None:
        """A worker ended by itself: its stage failed; another worker takes its place."""
        self.selector.unregister(stream)
        code = worker.process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        memory = " (out of memory?)" if code == -signal.SIGKILL else ""
        cause = f"the worker was {how}{memory}; see {worker.log}"
        number = self.processes.index(worker)
        if worker.stage is not None:
            key = worker.stage.key
            self.outcome.failed[key] = cause
            self.store.fail(key, {"kind": worker.stage.kind, "key": key, "cause": cause,
                                  "traceback": "", "time": ""})
            self.report({"event": "failed", "key": key, "cause": cause})
        elif not worker.ready and code != 0:
            raise RuntimeError(cause)
        self.processes[number] = self._start(number)

    def _stop(self) -> None:
        """Close every worker's input; they checkpoint and end."""
        for worker in self.processes:
            if self.outcome.interrupted:
                worker.process.terminate()
            _close(worker.process.stdin)
        for worker in self.processes:
            try:
                worker.process.wait(timeout=30)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                worker.process.kill()
                worker.process.wait()
            _close(worker.process.stdout)
        self.selector.close()


def _close(stream: IO[str] | None) -> None:
    try:
        if stream is not None:
            stream.close()
    except BrokenPipeError:
        pass


def _critical_path(stages: Sequence[Stage]) -> dict[str, float]:
    """Cost of the longest chain from each stage to the end, in epochs (other stages count little).

    Starting long chains (DnC: base, experts, distil) first keeps all workers busy to the end.
    """
    remaining = {stage.key: 0.0 for stage in stages}
    for stage in reversed(stages):
        cost = float(stage.params.get("training", {}).get("epochs", 0.1))
        remaining[stage.key] += cost
        for parent in stage.inputs.values():
            if parent.key in remaining:
                remaining[parent.key] = max(remaining[parent.key], remaining[stage.key])
    return remaining
