"""A worker process: does one stage at a time, as told on its standard input.

Protocol, one JSON object a line. In: {"stage": {...}, "inputs": {role: {"kind", "key"}}}
Out: {"event": "ready" | "progress" | "done" | "busy" | "failed" | "interrupted", "key": ..., ...}.
Standard output is the protocol's alone: what libraries print goes to the log of the stage. When
standard input closes (the sweep is gone), or on SIGTERM or SIGUSR2 (a batch system takes the
machine away), the worker checkpoints and ends.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .errors import PLACE_ERRORS, Failure, place
from .store import Store, now

if TYPE_CHECKING:
    from .claims import Claim
    from .execute import Context
    from .ranks import Leader

MEASURED = ("seconds", "images_per_second", "peak_memory_mb")
# After the sweep is gone or asked us to stop: this long for a checkpoint, then the process ends.
GRACE_SECONDS = 20.0
# How often a stage's progress is written for others to read: a file a stage, on a shared disk.
PROGRESS_SECONDS = 5.0


class Worker:
    """State of one worker process: where it reports, and whether it was asked to stop."""

    def __init__(self, settings: Mapping[str, Any], out: TextIO) -> None:
        self.settings = settings
        self.store = Store(Path(settings["store"]))
        self.out = out
        self.stopping = threading.Event()
        self.leader: Leader | None = None
        self._doing: tuple[Mapping[str, Any], Claim] | None = None
        self._last = self._written = 0.0

    def send(self, event: str, **facts: Any) -> None:
        """Write one event; that nobody reads it any more is a reason to stop, not a failure."""
        try:
            self.out.write(json.dumps({"event": event, **facts}) + "\n")
            self.out.flush()
        except BrokenPipeError:
            self.stopping.set()

    def progress(self, key: str, facts: Mapping[str, Any]) -> None:
        """Pass progress on, at most twice a second."""
        if time.monotonic() - self._last >= 0.5:
            self._last = time.monotonic()
            self.send("progress", key=key, **facts)
        if time.monotonic() - self._written >= PROGRESS_SECONDS:
            self._written = time.monotonic()
            self.store.note_progress(key, {**facts, "time": time.time()})

    def do(self, task: Mapping[str, Any]) -> None:
        """Do one stage and report how it ended."""
        stage = task["stage"]
        key = stage["key"]
        if self.store.has(stage["kind"], key):
            self.send("done", key=key, seconds=0.0, ran=False)
            return
        claim = self.store.claim(key)
        if claim is None:
            self.send("busy", key=key)
            return
        with claim:
            if self.store.has(stage["kind"], key):  # committed between our look and our claim
                self.send("done", key=key, seconds=0.0, ran=False)
                return
            print(title := f"--- {now()} {stage['kind']} {key}", file=sys.stderr, flush=True)
            _import_torch()  # only now: seconds that a busy claim does not cost
            with printing_to(self.store.log(key)):
                print(title, f"on {os.uname().nodename}, process {os.getpid()}", file=sys.stderr,
                      flush=True)
                self._doing = stage, claim
                self._do_claimed(stage, task["inputs"])

    def _do_claimed(self, stage: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        from .execute import Interrupted

        key, started = stage["key"], time.monotonic()
        try:
            self._run(stage, inputs)
        except Interrupted:
            self.send("interrupted", key=key)
            if self.leader:  # it may be another rank that was asked to stop
                self.stopping.set()
        except Exception as error:  # whatever a plug-in raises must end its own stage only
            self._ended_by(stage, error)
        else:
            self.send("done", key=key, seconds=time.monotonic() - started, ran=True)
        finally:
            self.store.note_progress(key, None)

    def _run(self, stage: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        from . import execute
        from .provenance import hardware, versions

        folders = {}
        for role, parent in inputs.items():
            self.store.verify(parent["kind"], parent["key"])
            folders[role] = self.store.folder(parent["kind"], parent["key"])
        context = self.context(stage)
        started = time.monotonic()
        with self.store.work(stage["key"]) as work:
            with self._together(stage, inputs, folders, context) as ranks:
                result = execute.RUN[stage["kind"]](dict(stage), folders, work, context)
            measured = {name: result.pop(name) for name in MEASURED if name in result}
            record = {**self.settings["provenance"], **measured, "created": now(),
                      "stage_seconds": time.monotonic() - started,
                      "hardware": hardware(context.device), "versions": versions()}
            if ranks > 1:
                record["ranks"] = ranks
            self.store.commit(stage, work, result, record)

    def context(self, stage: Mapping[str, Any]) -> Context:
        """Where and under whose eyes a stage runs."""
        from .execute import Context

        key = stage["key"]
        checkpoints = self.store.checkpoints(key)
        checkpoints.mkdir(parents=True, exist_ok=True)
        return Context(
            device=_device(self.settings["device"]),
            data_paths=self.settings["data_paths"],
            packs=Path(self.settings.get("packs") or self.store.root.parent / "packs"),
            plugins=tuple(Path(p) for p in self.settings["plugins"]),
            progress=lambda facts: self.progress(key, facts),
            checkpoint_seconds=self.settings["checkpoint_seconds"],
            checkpoint_dir=checkpoints,
            threads=_threads(stage),
            stop=self.stopping.is_set,
        )

    def _together(self, stage: Mapping[str, Any], inputs: Mapping[str, Any],
                  folders: Mapping[str, Path], context: Context) -> AbstractContextManager[int]:
        """The other ranks at work on the same stage while a block runs; only training has some."""
        if not self.settings.get("ranks") or stage["kind"] != "pretrain" \
                or "training" not in stage["params"]:
            return nullcontext(1)
        from .ranks import Leader

        self.leader = self.leader or Leader(self.settings, self._lost)
        return self.leader.stage({"stage": stage, "inputs": inputs}, folders, context)

    def _ended_by(self, stage: Mapping[str, Any], error: Exception) -> None:
        """A stage did not end well: it failed, here or in another rank, or a rank was lost."""
        trace = traceback.format_exc()
        if self.leader is None or not self.leader.inside:
            self._failed(stage, describe(error), trace)
            return
        found = self.leader.blame(error, describe(error))
        if found is None:
            print(trace, file=sys.stderr, flush=True)
        self._lost_or_failed(stage, self.leader.crew.broken or describe(error), found)
        self.stopping.set()  # the ranks meet anew

    def _lost_or_failed(self, stage: Mapping[str, Any], why: str,
                        found: Mapping[str, Any] | None) -> None:
        assert self.leader is not None
        if found is None:
            print(f"lost: {why}", file=sys.stderr, flush=True)
            self.send("lost", key=stage["key"], cause=why)
            return
        where = f"{self.leader.crew.name(found['rank'])} on {found['host']}: " \
            if found["rank"] else ""
        self._failed(stage, where + found["cause"], found["traceback"])

    def _lost(self, why: str, found: Mapping[str, Any] | None) -> None:
        """In a thread: a rank is gone, and the stage waits for it. This process ends."""
        assert self._doing
        stage, claim = self._doing
        self._lost_or_failed(stage, why, found)
        claim.__exit__(None, None, None)
        os._exit(0)

    def _failed(self, stage: Mapping[str, Any], cause: str, trace: str) -> None:
        print(trace, file=sys.stderr, flush=True)
        failure = {"kind": stage["kind"], "cause": cause, "traceback": trace, "time": now(),
                   "key": stage["key"]}
        self.store.fail(stage["key"], failure)
        self.send("failed", key=stage["key"], cause=cause)


def describe(error: BaseException) -> str:
    """One line for a person: what went wrong and, where we know it, the remedy."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in PLACE_ERRORS:
        return place(error)
    if os.strerror(errno.ENOSPC) in text:  # safetensors raises an error of its own
        return place(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    if isinstance(error, (Failure, ValueError, FloatingPointError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@functools.cache
def _import_torch() -> None:
    """Import what does stages; how long that took is in the worker's log, for benchmarks/slurm."""
    started = time.monotonic()
    from . import execute as execute

    print(f"imported in {time.monotonic() - started:.2f} s", file=sys.stderr, flush=True)


@contextmanager
def printing_to(log: Path) -> Iterator[None]:
    """Let everything that is printed, by libraries too, go to `log`; a full disk is no reason."""
    before = os.dup(2)
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:
        descriptor = os.dup(2)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    try:
        yield
    finally:
        sys.stderr.flush()
        for standard in (1, 2):
            os.dup2(before, standard)
        os.close(before)


def _device(wanted: str) -> str:
    """"auto" is a GPU if there is one."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _threads(stage: Mapping[str, Any]) -> int:
    params = stage["params"]
    return int(params.get("training", params).get("threads", 1))


def main() -> None:
    """Serve until standard input closes."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if not (line := sys.stdin.readline()):  # whoever started us was stopped before it could say
        return
    settings = json.loads(line)
    worker = Worker(settings, out)
    tasks = _Tasks(worker)
    ranks = settings.get("ranks")
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if ranks and not ranks["port"] and len(gpus) > 1:  # one for each rank, the first is ours
        settings["rank_gpus"], os.environ["CUDA_VISIBLE_DEVICES"] = gpus, gpus[0]
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda *_: tasks.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # whoever started us blocked them, so that none could end us before there was a handler
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGUSR2))
    worker.send("ready", pid=os.getpid())
    if ranks and ranks["rank"]:
        from .ranks import follow

        os._exit(follow(worker))
    try:
        for task in tasks:
            worker.do(task)
    except BrokenPipeError:
        pass
    sys.stderr.flush()
    # everything is on disk, and taking torch apart costs seconds on a busy node
    os._exit(0)


class _Tasks:
    """Standard input read by a thread, so that its end is noticed in the middle of a stage."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.lines: list[str] = []
        self.ready = threading.Condition()
        threading.Thread(target=self._read, name="tasks", daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            with self.ready:
                self.lines.append(line)
                self.ready.notify()
        self.stop()

    def stop(self) -> None:
        """Ask for a checkpoint and an end; make sure of the end."""
        self.worker.stopping.set()
        timer = threading.Timer(GRACE_SECONDS, os._exit, (1,))
        timer.daemon = True
        timer.start()

    def __iter__(self) -> _Tasks:
        return self

    def __next__(self) -> dict[str, Any]:
        with self.ready:
            # a signal handler cannot notify, so wake up now and then to look
            while not self.lines and not self.worker.stopping.is_set():
                self.ready.wait(0.5)
            if self.worker.stopping.is_set():
                raise StopIteration
            task: dict[str, Any] = json.loads(self.lines.pop(0))
            return task


if __name__ == "__main__":
    main()
