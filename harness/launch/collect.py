"""After the last job of a submission: records, tables and the report of the study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..store import read_json, write_json


class Collect:
    """The last small job: what `harness.sweep` does at its end, where nobody waits."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self) -> None:
        """Collect and write the report of the study."""
        finish(Path(self.folder))

    def checkpoint(self) -> Any:
        """Stopped in between, it begins again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Collect(self.folder))


def finish(folder: Path) -> None:
    """Note in study.json what failed, collect the records, write tables, figures and the page."""
    from ..records import collect
    from ..report import write_report
    from .states import BAD, look

    frame, damaged = collect(folder)
    study = read_json(folder / "study.json")
    causes = {key: state.cause for key, state in look(folder).items()
              if state.name in BAD}
    study["failures"] = failures(study, {**causes, **damaged})
    write_json(folder / "study.json", study)
    if not frame.empty:
        write_report(folder)


def failures(study: Mapping[str, Any], failed: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every cell that a failed stage leaves empty, as `manifest.failures` has them with a plan."""
    kinds = {key: kind for key, kind, _ in study["stages"]}
    root: dict[str, str] = {}
    for key, _, parents in study["stages"]:  # in order: inputs come first
        sources = [key, *(root[parent] for parent in parents if parent in root)]
        bad = [source for source in sources if source in failed]
        if bad:
            root[key] = bad[-1]
    return [{"method": cell["method"], "condition": cell["condition"], "seed": cell["seed"],
             "evaluation": cell["evaluation"], "stage_key": root[cell["key"]],
             "kind": kinds[root[cell["key"]]], "cause": failed[root[cell["key"]]],
             "rerun": study["command"]}
            for cell in study["cells"] if cell["key"] in root]
