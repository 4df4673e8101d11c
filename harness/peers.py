"""What public implementations publish of the same methods (paper_tables/peers.yaml), as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import UserError
from .paper_checks import check_keys, is_number, read_mapping
from .papers import FOLDER

PEERS = ("about", "commits", "caveats", "spread_note", "spread", "statements", "results")


def peers(folder: Path | str = FOLDER) -> dict[str, Any]:
    """What public implementations publish: commits, caveats, spread by method, statements, results.

    Percent. Raises UserError for an absent file or a result without source, protocol or numbers.
    """
    path = Path(folder) / "peers.yaml"
    if not path.is_file():
        raise UserError(f"{path} is absent: it comes with the repository; run in a clone")
    found = read_mapping(path)
    check_keys(found, PEERS, "peers.yaml")
    for i, result in enumerate(found["results"], 1):
        if not result.get("source") or not result.get("protocol"):
            raise UserError(f"peers.yaml: result {i} has no source or no protocol; state both")
        bad = [k for k, v in result["metrics"].items() if not is_number(v)]
        if bad or not result["metrics"]:
            raise UserError(f"peers.yaml: result {i}: {', '.join(bad) or 'metrics'} is no number")
    return found
