"""What Slurm says of jobs: one `squeue` for those that live, one `sacct` for those that ended."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import Failure, UserError

SECONDS = 60.0


@dataclass(frozen=True)
class Living:
    """A job that waits or runs: PENDING, RUNNING, COMPLETING...; why it waits; where it runs."""

    state: str
    reason: str = ""
    node: str = ""
    name: str = ""

    @property
    def waits(self) -> bool:
        """Whether it has no node yet."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "CONFIGURING", "SUSPENDED")


def require(*programs: str) -> None:
    """Raise UserError when Slurm's programs are not here."""
    for program in programs:
        if not shutil.which(program):
            raise UserError(f"launcher=slurm needs {program}, which this machine does not have: "
                            "run the command on a login node of the cluster, or use "
                            "launcher=local or launcher=inline")


def largest_array() -> int:
    """How many jobs an array may have here; Failure when the controller does not answer."""
    require("sbatch", "srun", "scontrol", "squeue")
    text = _ask(["scontrol", "show", "config"])
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", text, re.MULTILINE)
    return max(1, int(found[1]) - 1) if found else 1000


def living(ids: Iterable[str], names: Sequence[str] = ()) -> dict[str, Living]:
    """The jobs among `ids` (and, by name, of arrays whose id is unknown) that have not ended."""
    roots = sorted({i.split("_")[0] for i in ids})
    found: dict[str, Living] = {}
    for selection in (["-j", ",".join(roots)] if roots else [],
                      ["--name", ",".join(names)] if names else []):
        if selection:
            command = ["squeue", "--noheader", "--array", "-o", "%i|%T|%N|%j|%r", *selection]
            for line in _ask(command, ended="Invalid job id").splitlines():
                job, state, node, name, reason = line.split("|", 4)
                found[job] = Living(state, reason, node, name)
    return found


def ended(ids: Iterable[str]) -> dict[str, str]:
    """How jobs ended, in sacct's words (CANCELLED by 0, NODE_FAIL, ...); {} without accounting."""
    wanted = set(ids)
    if not wanted or not shutil.which("sacct"):
        return {}
    roots = ",".join(sorted({i.split("_")[0] for i in wanted}))
    try:
        text = _ask(["sacct", "-X", "-o", "JobID,State,NodeList", "--parsable2", "-j", roots])
    except Failure:
        return {}
    pairs = (line.split("|")[:2] for line in text.splitlines() if line.count("|") >= 2)
    return {job: state for job, state in pairs if job in wanted}


def cancel(ids: Iterable[str]) -> None:
    """Cancel jobs and whole arrays."""
    listed = sorted(ids)
    for start in range(0, len(listed), 500):
        _ask(["scancel", *listed[start:start + 500]], ended="Invalid job id")


def words(text: str) -> str:
    """What a Slurm program complained of, on one line without its prefixes."""
    lines = re.findall(r"(?:sbatch|squeue|scontrol|scancel|sacct)[\w.()]*: (?:error: )?(.*)", text)
    return "; ".join(dict.fromkeys(line.strip() for line in lines)) or " ".join(text.split())[-300:]


def _ask(command: list[str], ended: str = "\0") -> str:
    """Run a Slurm program; a complaint that contains `ended` is an empty answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not on this machine: run the command on a login node of "
                        "the cluster") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{command[0]} did not answer for {SECONDS:.0f} s: is the Slurm controller "
                      "down? What is submitted goes on; try again") from None
    if done.returncode and ended not in done.stderr:
        raise Failure(f"{command[0]} failed: {words(done.stderr)}; what is submitted goes on: try "
                      "again when the Slurm controller is back")
    return done.stdout
