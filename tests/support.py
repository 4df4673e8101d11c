"""What several test modules share: running the doors as a user does, and comparing stores."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A grid of a minute's work cut to seconds: one reference, one method, one recipe.
SMALL = ("grid=curation_gap", "scale=smoke", "grid.methods=[random_init,simclr,moclr_base,dnc]",
         "grid.seeds=[0]")


def door(module: str, *arguments: str, timeout: float = 300,
         env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ARGUMENTS` in the repository and return what it said."""
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, text=True,
                          capture_output=True, timeout=timeout, env={**os.environ, **(env or {})})


def sweep(results: Path, *arguments: str, base: Sequence[str] = SMALL,
          timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a sweep into `results`."""
    return door("harness.sweep", *base, f"results={results}", *arguments, timeout=timeout)


def contents(results: Path) -> dict[str, str]:
    """Every deterministic file of a store by its place, with its SHA-256.

    record.json holds times and hardware, SHA256SUMS its checksum: those two may differ.
    """
    store = results / "store"
    files = [path for kind in ("pretrain", "cluster", "features", "evaluate")
             for path in sorted((store / kind).glob("??/*/*"))]
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files if path.name not in ("record.json", "SHA256SUMS")}
