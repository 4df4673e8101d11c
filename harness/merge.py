"""`python -m harness.merge FILE... results=DIR`: take in what `harness.pack` wrote elsewhere.

    FILE ...         packs, of any studies
    results=DIR      the store's root (default: results)
    limit_gb=N       the most that one pack may unpack to (default: 20)

Everything is checked before anything is written: the checksums of the pack and of every artifact,
that a key is the hash of what its stage.json says, that equal keys have equal metrics, that a cell
has one key and an evaluation one protocol, and that studies of one name mean the same. What does
not agree is refused by name; nothing is averaged. What is there already is left as it is, so that
merging again changes nothing.

An artifact that comes without its arrays lies under store/light: it counts in records, and a sweep
that needs its weights computes them.

exit codes: 0 merged, 2 refused
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import arguments
from .artifact import protocol, read_artifact, sums
from .config import folder_name, named
from .errors import Failure, Problems, UserError, door
from .merge_study import union
from .pack import place_of
from .stages import digest
from .store import SUMS, Store, write_atomic, write_json
from .unpack import unpack

DEFAULTS = {"results": arguments.RESULTS, "limit_gb": "20"}


@dataclass
class Pack:
    """An unpacked file: its study and the folders of its artifacts by (kind, key)."""

    file: Path
    folder: Path
    name: str
    study: dict[str, Any]
    artifacts: dict[tuple[str, str], Path] = field(default_factory=dict)
    contents: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)


def main(argv: list[str]) -> int:
    """Merge; every reason for a refusal is a line of its own."""
    if not argv or arguments.wants_help(argv):
        print(__doc__)
        return 0 if argv else 2
    files = [Path(a) for a in argv if "=" not in a or Path(a).is_file()]
    options = arguments.parse([a for a in argv if Path(a) not in files], DEFAULTS, "harness.merge")
    if not files:
        raise UserError("harness.merge: no pack is named; write harness.merge FILE.tar")
    try:
        limit = float(options["limit_gb"]) * 1e9
    except ValueError:
        raise UserError(f"harness.merge: limit_gb must be a number, got "
                        f"'{options['limit_gb']}'") from None
    for line in merge(files, Path(options["results"]), int(limit)):
        print(line)
    return 0


def merge(files: list[Path], results: Path, limit: int = 20 * 10**9) -> list[str]:
    """Take packs into `results`; returns a line for each study.

    Raises UserError, or Problems with all of them, for what is refused; then nothing has changed.
    """
    store = Store.open(results / "store")
    work = Path(tempfile.mkdtemp(prefix=".merge-", dir=store.root))
    try:
        packs = [_read(file, work / str(i), limit) for i, file in enumerate(files)]
        problems = [line for pack in packs for line in _conflicts(pack, store)]
        problems += _between(packs)
        studies: dict[str, dict[str, Any]] = {}
        for pack in packs:
            known = studies.get(pack.name) or _study(results / pack.name)
            merged, found = union(known, pack.study, str(pack.file))
            studies[pack.name] = merged
            problems += found
        problems += [line for name, study in studies.items()
                     for line in _protocols(name, study, packs, store)]
        if problems:
            raise Problems(dict.fromkeys(problems))
        new = sum(_take(pack, store) for pack in packs)
        return _finish(studies, results, new)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _finish(studies: Mapping[str, dict[str, Any]], results: Path, new: int) -> list[str]:
    """Write the studies, collect their records, and say what came of it."""
    from .records import collect

    lines = [f"{new} artifacts are new in {results / 'store'}"]
    for name, study in studies.items():
        write_json(results / name / "study.json", study)
        frame, damaged = collect(results / name)
        for cause in damaged.values():
            raise Failure(cause)
        done = frame["evaluate_key"].nunique()
        lines.append(f"{name}: {done} of {len({c['key'] for c in study['cells']})} evaluations; "
                     "report: python -m harness.report "
                     f"{named(study['grid'], study['scale'], study.get('data', ''))} "
                     f"results={results}")
    return lines


def _read(file: Path, folder: Path, limit: int) -> Pack:
    """Unpack and check one file by itself."""
    names = unpack(file, folder, limit)
    try:
        study = json.loads((folder / "study" / "study.json").read_text(encoding="utf-8"))
        name = folder_name(study["grid"], study["scale"], study.get("data", ""))
        cells = list(study["cells"])
        assert cells is not None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: study/study.json is missing or no study ({error})") from None
    if not name or "/" in name or name.startswith(".") or name == "store":
        raise UserError(f"{file}: study.json has the name '{name}', which is no name of a study")
    pack = Pack(file, folder, name, study)
    for kind, key in sorted({(p[1], p[3]) for p in (n.split("/") for n in names)
                             if p[0] == "store" and p[1] != "cards"}):
        pack.artifacts[kind, key] = path = folder / "store" / kind / key[:2] / key
        try:
            found = read_artifact(str(path), whole=kind == "evaluate")
            for extra in set(os.listdir(path)) - {SUMS} - set(sums(str(path))):
                raise Failure(f"{path / extra}: not in {SUMS}")
        except (Failure, FileNotFoundError) as error:
            what = str(error).replace(str(folder) + "/", "").split(";")[0]
            raise UserError(f"{file}: {what}: damaged or changed by hand") from None
        _same_key(file, kind, key, found["stage"])
        pack.contents[kind, key] = found
    return pack


def _same_key(file: Path, kind: str, key: str, stage: Mapping[str, Any]) -> None:
    """Refuse a stage.json that does not hash to its key."""
    identity = {name: stage.get(name) for name in ("kind", "revision", "params", "inputs")}
    if stage.get("key") != key or identity["kind"] != kind or digest(identity) != key:
        raise UserError(f"{file}: store/{kind}/{key[:2]}/{key}/stage.json does not say what its "
                        "key says: changed by hand, or of another version")


def _conflicts(pack: Pack, store: Store) -> list[str]:
    """Artifacts that the store has with other metrics."""
    problems = []
    for (kind, key), found in pack.contents.items():
        own = place_of(store, kind, key)
        if own.is_dir():
            try:
                ours = read_artifact(str(own), whole=False)
            except Failure as error:
                problems.append(f"{error}")
                continue
            problems += _differ(kind, key, found, str(pack.file), ours, str(store.root))
    return problems


def _between(packs: list[Pack]) -> list[str]:
    """Artifacts that two packs have with different metrics."""
    problems, seen = [], dict[tuple[str, str], Pack]()
    for pack in packs:
        for place, found in pack.contents.items():
            first = seen.setdefault(place, pack)
            if first is not pack:
                problems += _differ(*place, found, str(pack.file), first.contents[place],
                                    str(first.file))
    return problems


def _differ(kind: str, key: str, one: Mapping[str, Any], where: str, two: Mapping[str, Any],
            other: str) -> list[str]:
    names = sorted(name for name in {**one["metrics"], **two["metrics"]}
                   if one["metrics"].get(name) != two["metrics"].get(name))
    if not names:
        return []
    told = ", ".join(f"{name} {_short(one['metrics'].get(name))} and "
                     f"{_short(two['metrics'].get(name))}" for name in names[:3])
    return [f"{kind} {key[:12]} has other metrics in {where} than in {other} ({told}); the same "
            "key must give the same numbers: compare versions and hardware with harness.diff, and "
            "keep one"]


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:24]


def _study(folder: Path) -> dict[str, Any] | None:
    path = folder / "study.json"
    if not path.exists():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); run harness.sweep again") from None


def _protocols(name: str, study: Mapping[str, Any], packs: list[Pack],
               store: Store) -> list[str]:
    """Evaluations of a study that were not all measured under one protocol."""
    found: dict[str, dict[str, str]] = {}
    contents = {key: pack.contents["evaluate", key]["stage"] for pack in packs
                for kind, key in pack.contents if kind == "evaluate"}
    for cell in study["cells"]:
        stage = contents.get(cell["key"])
        if stage is None:
            path = store.folder("evaluate", cell["key"]) / "stage.json"
            if not path.exists():
                continue
            stage = json.loads(path.read_text())
        place = f"{cell['method']} / {cell['condition']} / seed {cell['seed']}"
        found.setdefault(cell["evaluation"], {}).setdefault(protocol(stage), place)
    return [f"{name}: '{evaluation}' was measured under {len(each)} protocols ("
            + ", ".join(f"{hashed} for example by {place}" for hashed, place in each.items())
            + "); studies of one name must score alike"
            for evaluation, each in found.items() if len(each) > 1]


def _take(pack: Pack, store: Store) -> int:
    """Move what the store lacks into it, each artifact by one rename; returns how many."""
    count = 0
    for (kind, key), path in pack.artifacts.items():
        whole = set(sums(str(path))) <= set(os.listdir(path))
        target = store.folder(kind, key) if whole else store.root / "light" / kind / key[:2] / key
        if target.is_dir() or (not whole and place_of(store, kind, key).is_dir()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(path, target)
        except OSError:
            if not target.is_dir():  # another merge was first otherwise
                raise
            continue
        count += 1
    for card in sorted((pack.folder / "store" / "cards").glob("*")):
        target = store.root / "cards" / card.name
        if not target.exists():
            write_atomic(target, card.read_bytes())
    return count


run = door(main)

if __name__ == "__main__":
    run()
