"""The local launcher: one detached job on this machine, through submitit's LocalExecutor.

It has a worker for each GPU, or `workers` of them on a CPU, and outlives the shell that started it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..claims import process_start
from ..errors import Failure
from .batch import Living
from .ledger import Submission

# LocalExecutor wants a limit; it only ends what this long has not ended
MINUTES = 60 * 24 * 365
START_SECONDS = 300.0  # an import of submitit, which a busy machine has taken 60 s for


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; imports no torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    names = [entry.name for entry in Path("/dev").glob("nvidia*")]
    return sorted((name[6:] for name in names if re.fullmatch(r"nvidia\d+", name)), key=int)


def submit(submission: Submission, launcher: Mapping[str, Any], snapshot: Path,
           study: Path | None) -> None:
    """Start the one job of a submission and, after it in the same process, the report."""
    submission.note(array=0, name=f"{submission.name}-0")
    request = {"folder": str(submission.folder), "setup": launcher["setup"],
               "study": None if study is None else str(study),
               "signal_delay_s": launcher["signal_delay_s"]}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(
        [str(snapshot), *filter(None, [os.environ.get("PYTHONPATH")])])}
    # A process of its own session, or Ctrl-C and the end of the shell would reach the job, and
    # no pipe: the job would inherit its end, and hold whoever waits for all that is said
    log = submission.folder / "batch" / "start.log"
    with open(log, "wb") as file:
        starting = subprocess.Popen(
            [sys.executable, "-m", "harness.launch.local", json.dumps(request)], cwd=snapshot,
            env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            start_new_session=True)
    try:
        code = starting.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failure(f"the local job has not started in {START_SECONDS:.0f} s, since this machine "
                      "is busy; it will: follow it with harness.status") from None
    if code:
        submission.note(array=0, refused=f"code {code}")
        said = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise Failure(f"the local job does not start: {' '.join(said)} (see {log})")
    for read_before in ("lines", "ids"):  # it has written its id itself
        submission.__dict__.pop(read_before, None)


def identity(pid: int) -> str:
    """A job's id: machine, process, its start, since process numbers are used again."""
    return f"local:{socket.gethostname()}:{pid}:{process_start(pid) or 0}"


def living(ids: Iterable[str]) -> dict[str, Living]:
    """Those of `ids` that run on this machine."""
    found = {}
    for job in ids:
        _, host, pid, start = job.split(":")
        if host == socket.gethostname() and process_start(int(pid)) == start:
            found[job] = Living("RUNNING", node=host)
    return found


def cancel(ids: Iterable[str]) -> None:
    """End local jobs; their workers checkpoint."""
    for job in living(ids):
        # submitit's controller forwards SIGINT to the job, and ends
        os.kill(int(job.split(":")[2]), signal.SIGINT)


def batch_job(request: Mapping[str, Any]) -> None:
    """Hand the job to submitit, and write down the process of its controller."""
    import submitit

    from .allocation import Allocation

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    executor = submitit.LocalExecutor(Path(request["folder"]) / "batch")
    executor.update_parameters(timeout_min=MINUTES, signal_delay_s=request["signal_delay_s"],
                               setup=request["setup"])
    job = executor.submit(Allocation(request["folder"], 0, request["study"]))
    Submission(Path(request["folder"]), {}).note(array=0, ids=[identity(int(job.job_id))])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    batch_job(json.loads(sys.argv[1]))
