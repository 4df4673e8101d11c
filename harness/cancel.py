"""Cancel what was submitted for a study: everything that waits or runs, nothing that is done.

    python -m harness.cancel grid=curation_gap
    python -m harness.cancel grid=curation_gap scale=smoke results=DIR

    grid=NAME     the grid
    table=NAME    instead of a grid, a published table (dnc/table3), a paper (dnc), or all
    scale=NAME    its scale (default laptop)
    data=NAME     its images (default photos)
    results=DIR   the root of everything that is written (default results)

Running stages checkpoint; the sweep's own command goes on from there. From any machine of the
cluster, for jobs of launcher=slurm; on the same machine for launcher=local.
"""

from __future__ import annotations

import getpass
from pathlib import Path

from .arguments import RESULTS, find, named, parse, wants_help
from .errors import door
from .launch import batch, local
from .launch.ledger import Submission, submissions
from .store import Store, now

DEFAULTS = {"grid": "", "table": "", "scale": "laptop", "data": "", "results": RESULTS}


def main(arguments: list[str]) -> int:
    """Cancel and say how many jobs that were."""
    if wants_help(arguments):
        print(__doc__)
        return 0
    options = parse(arguments, DEFAULTS, "harness.cancel")
    folder = find(Path(options["results"]).expanduser(), named(options, "harness.cancel"),
                  options["scale"], options["data"])
    store = Store(folder.parent / "store")
    ours = [s for s in submissions(store) if s.facts["study"] == folder.name and not s.cancelled]
    found = living(ours)
    for job in found:
        if ":" in job:
            local.cancel([job])
    batch.cancel({job.split("_")[0] for job in found if ":" not in job})
    for submission in ours:
        submission.note(cancelled=now(), by=getpass.getuser())
    waited = sum(state.waits for state in found.values())
    number = f"{len(found)} job{'s' * (len(found) != 1)}"
    print(f"cancelled: {number} ({len(found) - waited} ran, {waited} waited)"
          if found else f"nothing to cancel: no job of {folder.name} waits or runs")
    return 0


def living(ours: list[Submission]) -> dict[str, batch.Living]:
    """The jobs of submissions that have not ended."""
    ids = {i for submission in ours for i in submission.all_ids}
    names = [name for submission in ours for _, name in submission.uncertain]
    here = {i for i in ids if ":" in i}
    found = local.living(here)
    return found | (batch.living(ids - here, names) if ids - here or names else {})


run = door(main)

if __name__ == "__main__":
    run()
