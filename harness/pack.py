"""`python -m harness.pack grid=NAME out=FILE.tar`: a study as one file, to be shared and merged.

    grid=NAME        the grid (or table=NAME, a published table)
    scale=NAME       its scale (default: laptop)
    data=NAME        its images (default: photos)
    results=DIR      the store's root (default: results)
    out=FILE.tar     where it goes
    weights=BOOL     with networks, features and other arrays (default: false)

It holds study.json, the records, cards of the data, and of every stage behind a cell its
stage.json, metrics.json, record.json and SHA256SUMS. Damaged artifacts are refused by name. The
same study gives the same bytes. `harness.merge` takes it in.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import arguments
from .artifact import JSONS, read_artifact
from .errors import Failure, UserError, door
from .store import SUMS, Store, sha256

FORMAT = 1
DEFAULTS = {"grid": "", "table": "", "scale": "laptop", "data": "", "results": arguments.RESULTS,
            "out": "", "weights": "false"}
BESIDE = ("records.parquet", "per_class.parquet", "runs.json")


def main(argv: list[str]) -> int:
    """Write the file; exit codes 0, 1 something is damaged, 2 a wrong request."""
    if arguments.wants_help(argv):
        print(__doc__)
        return 0
    options = arguments.parse(argv, DEFAULTS, "harness.pack")
    weights = arguments.boolean("weights", options["weights"], "harness.pack")
    if not options["out"].endswith(".tar"):
        raise UserError("harness.pack: name the file with out=FILE.tar")
    folder = arguments.find(Path(options["results"]), arguments.named(options, "harness.pack"),
                            options["scale"], options["data"])
    out = Path(options["out"])
    if not out.parent.is_dir():
        raise UserError(f"harness.pack: {out.parent} is no folder; make it, or choose another out=")
    cells, planned = pack(folder, out, weights)
    print(f"{out}: {cells} of {planned} cells of {folder.name}, {out.stat().st_size / 1e6:.1f} MB")
    return 0


def pack(folder: Path, out: Path, weights: bool = False) -> tuple[int, int]:
    """Write the study in `folder` to `out`, by one rename; returns cells packed and planned.

    Raises Failure naming an artifact that does not match its checksums.
    """
    from .records import collect

    store = Store(folder.parent / "store")
    frame, damaged = collect(folder)
    for cause in damaged.values():
        raise Failure(cause)
    study = json.loads((folder / "study.json").read_text())
    files: dict[str, Path] = {f"study/{name}": folder / name for name in ("study.json", *BESIDE)}
    for kind, key in stages(study, set(frame["evaluate_key"])):
        files |= _artifact(store, kind, key, weights)
    for fingerprint in sorted(set(frame["data_fingerprint"].astype(str))):
        for suffix in (".json", ".png"):
            path = store.root / "cards" / f"{fingerprint}{suffix}"
            if fingerprint and path.is_file():
                files[f"store/cards/{path.name}"] = path
    about = {"format": FORMAT, "study": folder.name, "weights": weights}
    _write(out, files, json.dumps(about, sort_keys=True).encode() + b"\n")
    planned = study["cells"]
    done = set(frame["evaluate_key"])
    return sum(cell["key"] in done for cell in planned), len(planned)


def stages(study: Mapping[str, Any], done: set[str]) -> Iterator[tuple[str, str]]:
    """(kind, key) of every stage behind the cells that are done, each once."""
    seen: set[str] = set()
    for cell in study["cells"]:
        if cell["key"] not in done:
            continue
        lineage = [*study["ancestry"][cell["pretrain_key"]], ["evaluate", cell["key"]]]
        if cell["features_key"]:
            lineage.append(["features", cell["features_key"]])
        for kind, key in lineage:
            if key not in seen:
                seen.add(key)
                yield kind, key


def place_of(store: Store, kind: str, key: str) -> Path:
    """Where an artifact lies: whole, or without its arrays as others have shared it."""
    folder = store.folder(kind, key)
    light = store.root / "light" / kind / key[:2] / key
    return light if light.is_dir() and not folder.is_dir() else folder


def _artifact(store: Store, kind: str, key: str, weights: bool) -> dict[str, Path]:
    folder = place_of(store, kind, key)
    if not folder.is_dir():
        if kind == "features":  # may have been removed: numbers do not need it
            return {}
        raise Failure(f"{folder}: missing, though a cell was made from it; run the sweep again")
    whole = weights and folder == store.folder(kind, key)
    read_artifact(str(folder), whole=whole or kind == "evaluate")
    names = sorted(os.listdir(folder)) if whole or kind == "evaluate" else [*JSONS, SUMS]
    return {f"store/{kind}/{key[:2]}/{key}/{name}": folder / name for name in names}


def _write(out: Path, files: Mapping[str, Path], about: bytes) -> None:
    lines = [f"{hashlib.sha256(about).hexdigest()}  pack.json\n"]
    lines += [f"{sha256(path)}  {name}\n" for name, path in sorted(files.items())]
    sibling = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with tarfile.open(sibling, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, data in (("pack.json", about), (SUMS, "".join(lines).encode())):
                tar.addfile(_member(name, len(data)), io.BytesIO(data))
            for name, path in sorted(files.items()):
                with open(path, "rb") as file:
                    tar.addfile(_member(name, path.stat().st_size), file)
        os.replace(sibling, out)
    finally:
        sibling.unlink(missing_ok=True)


def _member(name: str, size: int) -> tarfile.TarInfo:
    """A regular file without owner and time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info


run = door(main)

if __name__ == "__main__":
    run()
