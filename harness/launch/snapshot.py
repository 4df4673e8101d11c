"""A copy of the code, named by its content, that jobs run whatever happens to the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..provenance import ROOT

PACKAGES = ("harness", "methods", "datasets", "paper_tables")


@dataclass(frozen=True)
class Snapshot:
    """Where the copy lies, its hash, and where in it the plug-ins are."""

    folder: Path
    hash: str
    plugins: tuple[Path, ...]


def take(results: Path, plugins: Sequence[Path]) -> Snapshot:
    """Copy the packages and the plug-ins into `<results>/code/<hash>/`, once for equal code."""
    places = {f"plugins/{number}/{path.name}": path.resolve()
              for number, path in enumerate(plugins)}
    files = {**_files({name: ROOT / name for name in PACKAGES}), **_files(places)}
    hasher = hashlib.sha256()
    for name, path in sorted(files.items()):
        data = path.read_bytes()
        hasher.update(f"{name}\0{len(data)}\0".encode() + data)
    digest = hasher.hexdigest()[:16]
    folder = results.resolve() / "code" / digest
    if not folder.is_dir():
        _copy(files, folder)
    return Snapshot(folder, digest, tuple(folder / name for name in places))


def _files(places: dict[str, Path]) -> dict[str, Path]:
    """Name in the copy -> file, for files and for all that folders hold."""
    found = {}
    for name, place in places.items():
        paths = [place] if place.is_file() else place.rglob("*")
        for path in paths:
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"{name}/{path.relative_to(place)}" if path != place else name] = path
    return found


def _copy(files: dict[str, Path], folder: Path) -> None:
    """All files, then one rename, so that nobody runs half a copy."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, path in files.items():
            target = work / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        work.chmod(0o755)
        os.rename(work, folder)
    except OSError:
        if not folder.is_dir():  # else somebody else was first, with the same content
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
