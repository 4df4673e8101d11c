"""What the slurm and local launchers share: from a plan to submitted jobs, and the words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..plan import Plan
from ..stages import Stage
from ..store import Store
from . import batch, ledger, local, slurm, snapshot
from .ledger import Submission
from .packing import packing
from .settings import for_workers
from .states import Look
from .units import Job, arrays, divide, jobs


@dataclass(frozen=True)
class Asked:
    """What became of a request: the submission (None: nothing to submit), and what others do."""

    submission: Submission | None
    elsewhere: Mapping[str, str]


def submit(plan: Plan, store: Store, settings: Mapping[str, Any]) -> Asked:
    """Submit what of `plan.todo` no living job has; the ledger is written before the first job."""
    slurm_ = settings["name"] == "slurm"
    largest = batch.largest_array() if slurm_ else 0
    with ledger.submitting(store):
        elsewhere = _elsewhere(plan, store)
        todo = [stage for stage in plan.todo if stage.key not in elsewhere]
        if not todo:
            return Asked(None, elsewhere)
        made = _jobs(todo, store, settings, elsewhere) if slurm_ else [_one_job(todo, settings)]
        groups = arrays(made, largest) if slurm_ else [made]
        if slurm_ and settings["launcher"]["max_running"] and len(groups) > 1:
            groups = arrays(made, 1)
        taken = snapshot.take(plan.study.results, plan.study.plugins)
        submission = _write(plan, store, settings, made, groups, taken)
        for stage in todo:  # an old failure must not pass for one of the new attempt
            (store.root / "failures" / f"{stage.key}.json").unlink(missing_ok=True)
        study = None if settings["wait"] else plan.study.folder.resolve()
        if slurm_:
            slurm.submit(submission, groups, settings["launcher"], taken.folder, study)
        else:
            local.submit(submission, settings["launcher"], taken.folder, study)
    return Asked(submission, elsewhere)


def expected(plan: Plan, store: Store, settings: Mapping[str, Any]) -> int:
    """How many jobs Slurm would be given, if no living job had any of the stages."""
    return len(_jobs(plan.todo, store, settings, {}))


def _elsewhere(plan: Plan, store: Store) -> dict[str, str]:
    """The stages that a living job has already, ours or anybody's, with the job's id."""
    stages = [(s.key, s.kind, [p.key for p in s.inputs.values()]) for s in plan.todo]
    look = Look(store, stages, strict=True)
    return {key: job for key in look.open
            if (job := look.job_id(key)) in look.living and look.states[key].name
            in ("queued", "running")}


def _jobs(todo: list[Stage], store: Store, settings: Mapping[str, Any],
          elsewhere: Mapping[str, str]) -> list[Job]:
    return jobs(divide(todo, settings["resources"]), packing(store, settings["launcher"]),
                elsewhere)


def _one_job(todo: list[Stage], settings: Mapping[str, Any]) -> Job:
    """All stages, with a worker for each GPU or as many as the launcher says."""
    units = tuple(divide(todo, settings["resources"]))
    workers = settings["workers"]
    return Job(0, units, units[0].resources, workers)


def _write(plan: Plan, store: Store, settings: Mapping[str, Any], made: list[Job],
           groups: list[list[Job]], taken: snapshot.Snapshot) -> Submission:
    provenance = {**settings["provenance"], "snapshot": taken.hash}
    workers = for_workers(settings, plugins=[str(path) for path in taken.plugins],
                          provenance=provenance)
    facts = {"study": plan.study.folder.name, "launcher": settings["name"],
             "command": provenance["command"], "snapshot": taken.hash,
             "snapshot_folder": str(taken.folder)}
    return ledger.write(store, facts, made, groups, workers)


def describe(asked: Asked, plan: Plan) -> str:
    """What was submitted, where its logs are, how to watch and how to cancel it."""
    lines = []
    if asked.elsewhere:
        by_job = Counter(asked.elsewhere.values())
        listed = ", ".join(list(by_job)[:5]) + (", ..." if len(by_job) > 5 else "")
        lines.append(f"not submitted again: {len(asked.elsewhere)} stages that living jobs have "
                     f"({listed})")
    if asked.submission:
        lines += _submitted(asked.submission)
    where = plan.study.named
    return "\n".join([
        *lines, f"watch:  python -m harness.status {where} watch=true",
        f"cancel: python -m harness.cancel {where}"])


def _submitted(submission: Submission) -> list[str]:
    facts = submission.facts
    roots = list(dict.fromkeys(i.split("_")[0] for i in submission.all_ids))
    shown = ", ".join(roots[:8]) + (f", ... {roots[-1]}" if len(roots) > 8 else "")
    stages = sum(len(job["stages"]) for job in facts["jobs"])
    number = f"{len(facts['jobs'])} jobs in {len(facts['arrays'])} arrays"
    if facts["launcher"] == "local":
        number, shown = "one job", f"process {submission.all_ids[0].split(':')[2]}"
    return [f"submitted: {stages} stages as {number} ({shown})",
            f"logs:   {submission.folder / 'batch'} (jobs), "
            f"{submission.folder.parent.parent / 'logs'} (stages)"]


