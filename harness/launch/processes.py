"""Starting a worker process: its environment, its signals, its first line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Keeps large activations instead of returning them to the kernel at each operation: measured 12 %
# of a step on a ResNet-18 at 32x32.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
# What a batch system sends to a whole allocation. A worker that is only starting must not die of
# it, so they are blocked from birth until the worker has its handlers.
BLOCKED = (signal.SIGTERM, signal.SIGUSR2)

# The exit code of a worker whose crew is lost: it is to be started again.
BROKEN = 75


def ended_how(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with code {code}"
    memory = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{memory}"


@contextmanager
def unsignalled() -> Iterator[None]:
    """No handler of what a batch system sends runs within the block: it waits for its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start(settings: Mapping[str, Any], log: Path | int,
          gpus: str | None = None) -> subprocess.Popen[bytes]:
    """Start a worker and tell it its settings; what is printed goes to the end of `log`, or a
    descriptor.

    gpus: what it may see, as CUDA_VISIBLE_DEVICES names them; None: what this process sees.
    """
    environment = {**os.environ, **MALLOC, "OMP_NUM_THREADS": str(settings["threads"])}
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    with unsignalled(), open(log, "a", closefd=not isinstance(log, int)) as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.worker"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=file, env=environment,
            # its own session: Ctrl-C reaches the sweep alone, which then asks it to stop
            start_new_session=True)
    tell(process, settings)
    return process


def tell(process: subprocess.Popen[bytes], message: Mapping[str, Any]) -> None:
    """Send a worker one line; one that died is noticed where its output is read."""
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass
