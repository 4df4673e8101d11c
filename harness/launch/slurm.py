"""The slurm launcher: submits jobs through submitit and writes every one down."""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from ..errors import Failure, UserError
from . import batch
from .allocation import Allocation
from .collect import Collect
from .ledger import Submission
from .units import Job

# submitit's own names of what is passed on as it is, under the prefix that submitit wants
PASSED = ("partition", "account", "qos", "constraint", "exclude", "nodelist", "exclusive",
          "mail_user", "mail_type", "signal_delay_s")
# A job may run out of time as often as it must: each time it goes on where it was. Failures have
# caps of their own.
MAX_TIMEOUTS = 1000
COLLECT_MINUTES = 60


def submit(submission: Submission, arrays: Sequence[Sequence[Job]],
           launcher: Mapping[str, Any], snapshot: Path, study: Path | None) -> None:
    """Submit every array after those that it waits for, then the job that collects.

    Slurm limits how many jobs of one array run. Where `max_running` is to hold for several, each
    is one job (see `detached`) in one of so many lanes: jobs of one name that run one by one.

    Raises UserError when the first is refused (nothing was submitted), Failure when a later one is.
    """
    title = f"{submission.facts['study']}.{submission.name}"
    lanes = launcher["max_running"] if len(arrays) > 1 else None
    ids: dict[int, str] = {}
    last: dict[str, str] = {}
    for number, members in enumerate(arrays):
        after = sorted({ids[n] for n in members[0].after} | members[0].after_ids)
        name = f"{title}-lane{number % lanes}" if lanes else f"{title}-{number}"
        executor = _executor(submission, launcher, snapshot, name, after, members[0], bool(lanes))
        tasks = [Allocation(str(submission.folder), job.number) for job in members]
        found = _submit(submission, number, name, executor, tasks)
        ids |= {job.number: i for job, i in zip(members, found, strict=True)}
        last[name] = found[0].split("_")[0]
    if study is not None:
        if not lanes:
            waited = {n for members in arrays for job in members for n in job.after}
            last = {i: i for i in {i.split("_")[0] for n, i in ids.items() if n not in waited}}
        name = f"{title}-report"
        executor = _executor(submission, launcher, snapshot, name, sorted(last.values()), None)
        _submit(submission, None, name, executor, [Collect(str(study))])


def _submit(submission: Submission, number: int | None, name: str, executor: Any,
            tasks: Sequence[Any]) -> list[str]:
    """One array, or a single job; the ledger knows of it before and after."""
    from submitit.core.utils import FailedJobError

    submission.note(array=number, name=name)
    try:
        with redirect_stderr(io.StringIO()):  # sbatch's words are in the error as well
            ids = [job.job_id for job in executor.submit_array(list(tasks))]
    except (FailedJobError, OSError) as error:
        said = batch.words(str(error))
        submission.note(array=number, refused=said)
        if not submission.all_ids:
            raise UserError(f"Slurm refused the jobs: {said}; nothing was submitted. Set "
                            "launcher.partition, launcher.account, launcher.timeout_min, ... to "
                            "what the cluster has (sinfo)") from None
        raise Failure(f"Slurm refused more jobs: {said}; {len(submission.all_ids)} were accepted "
                      "and go on. The same command submits the rest, later") from None
    submission.note(array=number, ids=ids)
    return ids


def _executor(submission: Submission, launcher: Mapping[str, Any], snapshot: Path, name: str,
              after: Sequence[str], job: Job | None, lane: bool = False) -> Any:
    """A submitit executor with the options of the launcher and the resources of a job."""
    import submitit

    # a new one each time: it waits 0.2 s between the single jobs of one executor
    executor = submitit.AutoExecutor(submission.folder / "batch", cluster="slurm",
                                     slurm_max_num_timeout=MAX_TIMEOUTS)
    options = {f"slurm_{key}": launcher[key] for key in PASSED if launcher.get(key) is not None}
    extra = {"chdir": str(snapshot), "requeue": True, "kill-on-invalid-dep": "yes",
             **(launcher["slurm"] or {})}
    waits = ["afterany:" + ":".join(after)] * bool(after) + ["singleton"] * lane
    if waits:
        options["slurm_dependency"] = ",".join(waits)
    if launcher["max_running"]:
        options["slurm_array_parallelism"] = launcher["max_running"]
    path = f"export PYTHONPATH={shlex.quote(str(snapshot))}${{PYTHONPATH:+:$PYTHONPATH}}"
    executor.update_parameters(
        name=name, **_shape(job), **options, slurm_additional_parameters=extra,
        slurm_setup=[*launcher["setup"], path],
        slurm_teardown=_requeue_if_killed(submission.folder / "batch", launcher["retries"]))
    return executor


def _shape(job: Job | None) -> dict[str, Any]:
    """The size of an allocation in submitit's names. Packed units share GPUs, not cores."""
    if job is None:
        return {"timeout_min": COLLECT_MINUTES, "cpus_per_task": 1}
    wanted, packed = job.resources, job.side_by_side
    shape: dict[str, Any] = {
        "timeout_min": wanted.minutes, "nodes": wanted.nodes,
        "tasks_per_node": wanted.tasks_per_node, "cpus_per_task": wanted.cpus * packed}
    if wanted.ranks > 1:
        # one task that is killed ends all; one that ends well waits for the others
        shape["slurm_srun_args"] = ["--kill-on-bad-exit=1", "--wait=0"]
    if wanted.gpus:
        shape["gpus_per_node"] = wanted.gpus
    if wanted.memory_gb:
        shape["mem_gb"] = wanted.memory_gb * packed
    return shape


def _requeue_if_killed(folder: Path, retries: int) -> list[str]:
    """Shell lines after the step: one that a signal ended (not an error of ours) begins again.

    255 is submitit's own end after it has requeued. A cancelled job is not RUNNING any more. An
    array's own number is also that of one of its jobs, and names them all: hence `job`.
    """
    deaths = f"{shlex.quote(str(folder))}/killed-$job"
    return [
        "code=$?",
        'job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"',
        'job="${job:-$SLURM_JOB_ID}"',
        "if [ $code -gt 128 ] && [ $code -ne 255 ]; then",
        f"  echo $code >> {deaths}",
        f'  if [ "$(wc -l < {deaths})" -le {retries} ] && '
        '[ "$(squeue --noheader --array -j $job -o %T)" = RUNNING ]; then',
        "    scontrol requeue $job",
        "  fi",
        "fi",
        "exit $code"]
