"""Plan a grid, run what is missing, report.

    python -m harness.sweep grid=curation_gap
    python -m harness.sweep grid=curation_gap scale=smoke
    python -m harness.sweep grid=curation_gap dry_run=true
    python -m harness.sweep grid=curation_gap grid.methods=[moclr,dnc] grid.seeds=[0,1,2,3,4]
    python -m harness.sweep table=dnc/table3 scale=paper dry_run=true
    python -m harness.sweep grid=curation_gap data=npz data.path=FILE method.simclr.temperature=0.2
    python -m harness.sweep grid=curation_gap launcher=slurm launcher.partition=gpu
    python -m harness.sweep grid=curation_gap plugins=[my_method.py] grid.methods=[simclr,my_method]
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import config as configuration
from .errors import Problems, UserError, door, problems_of
from .store import sha256, write_json

# Checksums of what the report was made from: figures and page take 5 s, and are kept if they hold.
STAMP = ".made-from.json"

OPTIONS = """
arguments are KEY=VALUE:
  grid=NAME            what is compared: {grid}
  table=NAME           instead of a grid, a published table: dnc/table3, a paper (dnc), or all
  scale=NAME           how big: {scale} (default laptop)
  data=NAME            on which images: {data} (default photos)
  launcher=NAME        where: {launcher} (default inline)
  results=DIR          the root of everything that is written (default results)
  dry_run=true         print the plan with its price, run nothing
  wait=true            with launcher=slurm or local: follow the jobs to their end
  repair=true          set damaged artifacts aside, then compute them again
  plugins=[PATH,...]   files or folders with methods of your own
  grid.name=NAME       a folder of its own below results, instead of GRID-SCALE or, on other images
                       than photos, GRID-SCALE-DATA
  grid.methods=[...]   rows; grid.conditions=[...], grid.seeds=[...], grid.evaluations=[...]
  method.NAME.OPTION=VALUE, scale.training.epochs=N, data.path=PATH, launcher.workers=N, ...

names and options: python -m harness.list methods|datasets|evaluations|grids|scales
exit codes: 0 done, 1 something failed (the rest is done), 2 wrong request, 130 interrupted
"""


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        groups = {g: ", ".join(configuration.choices(g)) for g in configuration.GROUPS}
        print(__doc__ + OPTIONS.format(**groups))
        return 0 if arguments else 2
    study, settings = _requested(arguments)
    command = "python -m harness.sweep " + " ".join(shlex.quote(a) for a in arguments)
    return _sweep(study, settings, command)


def _requested(arguments: list[str]) -> tuple[Any, dict[str, Any]]:
    """The study and the launcher's settings; Problems with all that is wrong with either."""
    config, problems = configuration.examine(arguments)
    if not config:
        raise Problems(problems)
    from .launch.settings import settings as launcher_settings
    from .study import resolve_study

    study, settings = None, {}
    try:
        study = resolve_study(config)
    except UserError as error:
        problems += problems_of(error)
    try:
        settings = launcher_settings(config, study)
    except UserError as error:
        problems += problems_of(error)
    if problems:
        raise Problems(dict.fromkeys(problems))
    return study, settings


def _sweep(study: Any, settings: dict[str, Any], command: str) -> int:
    from . import manifest, progress, table_plan
    from .estimate import price
    from .plan import make_plan
    from .provenance import provenance
    from .store import Store

    root = study.results / "store"
    store = Store(root)
    store.check_version()
    if settings["repair"]:
        _repair(store)
    plan = make_plan(study, store)
    for note in (*study.notes, *plan.cautions, *_overruled(study, command)):
        print(f"note: {note}", file=sys.stderr)
    if study.papers:
        table_plan.print_plan(plan, store)
    else:
        progress.print_plan(plan, price(plan, store, settings["workers"]))
    if settings["name"] == "slurm":
        from .launch.detached import expected
        from .launch.resources import describe

        print("\n".join([f"resources of {expected(plan, store, settings)} jobs:",
                         *describe(plan.todo, settings["resources"])]))
    if settings["dry_run"]:
        return 0
    store = Store.open(root)
    store.sweep_up()
    if note := manifest.displaced(plan, command):
        print(f"note: {note}", file=sys.stderr)
    manifest.write(plan, command, {})
    _fetch(study)
    settings = {**settings, "store": str(root.resolve()), "data_paths": _paths(study, plan),
                "packs": str(Path(study.config["data"]["cache"] or
                                  study.results / "packs").expanduser().resolve()),
                "provenance": provenance(command)}
    if settings["name"] != "inline" and plan.todo:
        return _detached(plan, store, settings, command)
    from .launch import inline

    with progress.Progress(plan) as shown:
        outcome = inline.run(plan.todo, store, settings, settings["workers"],
                             study.folder / "logs", shown)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return _finish(plan, store, outcome, command)


def _detached(plan: Any, store: Any, settings: dict[str, Any], command: str) -> int:
    """Submit, say so and return; with wait=true follow to the end and report as inline does."""
    from . import progress
    from .launch import detached
    from .launch.follow import follow

    print(detached.describe(detached.submit(plan, store, settings), plan), flush=True)
    if not settings["wait"]:
        return 0
    with progress.Progress(plan) as shown:
        outcome = follow(plan, store, shown)
    return _finish(plan, store, outcome, command)


def _overruled(study: Any, command: str) -> list[str]:
    """A training setting of the command line that a method's own setting keeps from it."""
    notes = []
    for word in shlex.split(command):
        key = word.partition("=")[0]
        if not key.startswith("scale.training."):
            continue
        setting = key.rpartition(".")[2]
        own = [name for name, entry in (study.config["scale"].get("methods") or {}).items()
               if setting in ((entry or {}).get("training") or {})]
        if own:
            notes.append(f"{key} does not reach {', '.join(own)}, which have their own: set "
                         f"scale.methods.{own[0]}.training.{setting}=VALUE as well")
    return notes


def _finish(plan: Any, store: Any, outcome: Any, command: str) -> int:
    """Collect, report, and say what failed and how to run just that again."""
    from . import cards, manifest, progress
    from .records import collect
    from .report import show_report, write_report

    folder = plan.study.folder
    frame, damaged = collect(folder)
    if not frame.empty:
        for line in cards.write(plan, plan.study.results):
            print(f"note: {line}", file=sys.stderr)
    manifest.write(plan, command, {**outcome.blocked, **outcome.failed, **damaged})
    made_from = [sha256(folder / name) for name in ("study.json", "records.parquet")]
    if frame.empty:
        print("no record yet, so no table and no report")
    elif _stamp(folder) == made_from:
        show_report(folder)
    else:
        write_report(folder)
        write_json(folder / STAMP, made_from)
    if not frame.empty:
        print(f"report: {folder / 'report.html'} (with tables/, figures/ and records.parquet)")
    failed = progress.print_failures(plan, outcome, damaged, command)
    return 1 if failed else 0


def _stamp(folder: Path) -> list[str] | None:
    """What the report that lies in `folder` was made from; None if there is none."""
    from .store import read_json

    whole = all((folder / name).exists() for name in (STAMP, "report.html", "figures", "tables"))
    return read_json(folder / STAMP) if whole else None


def _fetch(study: Any) -> None:
    """Download what the configuration allows to, before stages run: stages never download."""
    import datasets
    from datasets.dense import READERS

    for spec in _specs(study):
        if spec["source"] in READERS:  # tens of GB: their messages say how to fetch them
            continue
        try:
            datasets.prepare(spec)
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from None


def _specs(study: Any) -> Sequence[Mapping[str, Any]]:
    return [study.labelled, *(condition.data for condition in study.conditions),
            *(asked.data for asked in study.evaluations.values() if asked.target)]


def _paths(study: Any, plan: Any) -> dict[str, str]:
    """Where data lies on this machine, by source and, since two targets may share one, by
    fingerprint: it is in no key."""
    places = {spec["source"]: spec["path"] for spec in _specs(study) if spec.get("path")}
    return {name: str(Path(path).expanduser().resolve())
            for name, path in {**places, **plan.places}.items()}


def _repair(store: Any) -> None:
    """Verify every artifact; set those that are damaged aside."""
    from .errors import Failure
    from .store import KINDS

    for kind in KINDS:
        for folder in sorted((store.root / kind).glob("??/*")):
            try:
                store.verify(kind, folder.name)
            except Failure as error:
                aside = store.quarantine(kind, folder.name)
                print(f"repair: {error.args[0].split(';')[0]}; moved to {aside}", file=sys.stderr)


run = door(main)

if __name__ == "__main__":
    run()
