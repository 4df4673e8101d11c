"""`python -m harness.diff RUN RUN`: what two runs differ in: how they were made, and what came out.

    RUN              a key, its first digits (4 or more), or a cell,
                     GRID:METHOD:CONDITION:SEED:EVALUATION
    scale=NAME       the scale of the cells' studies (default: laptop)
    data=NAME        their images (default: photos)
    results=DIR      the store's root (default: results)
    same=BOOL        also show what is the same (default: false)

Parameters are compared along the whole ancestry: `features.encoder.params.training.lr` is that of
the network behind the features. Stages with one key are the same and are not looked into. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import arguments
from .artifact import read_artifact
from .errors import UserError, door, unknown
from .pack import place_of
from .store import KINDS, Store

DEFAULTS = {"scale": "laptop", "data": "", "results": arguments.RESULTS, "same": "false"}
SECTIONS = ("what", "params", "inputs", "data", "versions", "hardware", "code", "metrics")
PLACE = ("method", "condition", "seed", "evaluation")
SHORTEST = 4  # digits of a key
ABSENT = "--"


def main(argv: list[str]) -> int:
    """Print the differences by section; exit codes 0 compared, 2 no such run."""
    if not argv or arguments.wants_help(argv):
        print(__doc__)
        return 0 if argv else 2
    names = [a for a in argv if a.partition("=")[0] not in DEFAULTS]
    options = arguments.parse([a for a in argv if a not in names], DEFAULTS, "harness.diff")
    if len(names) != 2:
        raise UserError(f"harness.diff: {len(names)} runs are named; write harness.diff RUN RUN")
    same = arguments.boolean("same", options["same"], "harness.diff")
    results = Path(options["results"])
    places = [find(name, results, options["scale"], options["data"]) for name in names]
    sides = [facts(Store(results / "store"), *place) for place in places]
    for name, (kind, key) in zip(names, places, strict=True):
        print(f"{name}: {kind} {key}")
    for line in compare(sides[0], sides[1], same):
        print(line)
    return 0


def find(name: str, results: Path, scale: str, data: str = "") -> tuple[str, str]:
    """(kind, key) of a run in the store; UserError where there is none, or more than one."""
    store = Store(results / "store")
    if ":" in name:
        return "evaluate", _cell(name, results, scale, data)
    if len(name) < SHORTEST or set(name) - set("0123456789abcdef"):
        raise UserError(f"harness.diff: '{name}' is no run; write a key, {SHORTEST} or more of its "
                        "first digits, or GRID:METHOD:CONDITION:SEED:EVALUATION")
    found = sorted({(kind, path.name) for kind in KINDS
                    for base in (store.root, store.root / "light")
                    for path in (base / kind / name[:2]).glob(f"{name}*")})
    if not found:
        raise UserError(f"harness.diff: no stage in {store.root} has a key that begins with "
                        f"'{name}'; see harness.status for keys, or name the store's root with "
                        "results=DIR")
    if len(found) > 1:
        listed = ", ".join(f"{kind} {key[:len(name) + 4]}" for kind, key in found[:4])
        raise UserError(f"harness.diff: '{name}' begins {len(found)} keys: {listed}; write more "
                        "of it")
    return found[0]


def _cell(name: str, results: Path, scale: str, data: str) -> str:
    """The evaluation key of GRID:METHOD:CONDITION:SEED:EVALUATION."""
    parts = name.split(":")
    if len(parts) != 5:
        raise UserError(f"harness.diff: '{name}' is no cell; write "
                        "GRID:METHOD:CONDITION:SEED:EVALUATION, for instance "
                        "curation_gap:dnc:uncurated:0:linear")
    folder = arguments.find(results, parts[0], scale, data)
    cells = json.loads((folder / "study.json").read_text(encoding="utf-8"))["cells"]
    for i, place in enumerate(PLACE):
        options = dict.fromkeys(str(cell[place]) for cell in cells)
        if parts[i + 1] not in options:
            raise unknown(place, parts[i + 1], options, folder.name)
        cells = [cell for cell in cells if str(cell[place]) == parts[i + 1]]
    return str(cells[0]["key"])


def facts(store: Store, kind: str, key: str) -> dict[str, dict[str, Any]]:
    """What there is to compare, by section and dotted name."""
    found: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    _add(store, kind, key, "", found, set())
    return found


def _add(store: Store, kind: str, key: str, role: str, found: dict[str, dict[str, Any]],
         seen: set[str]) -> None:
    """Add an artifact and its ancestry; one that several stages read is told of once."""
    seen.add(key)
    folder = place_of(store, kind, key)
    prefix = f"{role}." if role else ""
    try:
        read = read_artifact(str(folder), whole=False)
    except FileNotFoundError:
        raise UserError(f"harness.diff: {folder} is not in the store yet") from None
    stage, record = read["stage"], read["record"]
    found["what"][f"{prefix}kind"] = f"{kind}, revision {stage['revision']}"
    for name, value in flat(stage["params"]):
        section = "data" if name.partition(".")[0] == "data" else "params"
        found[section][f"{prefix}{name}"] = value
    for name, value in flat(read["metrics"]):
        found["metrics"][f"{prefix}{name}"] = value
    found["hardware"][f"{prefix}hardware"] = record.get("hardware", ABSENT)
    for name in ("git_commit", "code", "command"):
        found["code"][f"{prefix}{name}"] = record.get(name) or "none"
    for name, value in record.get("versions", {}).items():
        found["versions"][f"{prefix}{name}"] = value
    for name, parent in sorted(stage["inputs"].items()):
        found["inputs"][f"{prefix}{name}"] = parent
        kinds = [k for k in KINDS if place_of(store, k, parent).is_dir()]
        if kinds and parent not in seen:
            _add(store, kinds[0], parent, f"{prefix}{name}", found, seen)


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and single values; a list stays whole."""
    if isinstance(value, Mapping) and value:
        for key in value:
            yield from flat(value[key], f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def compare(one: Mapping[str, Mapping[str, Any]], two: Mapping[str, Mapping[str, Any]],
            same: bool = False) -> Iterator[str]:
    """A line for each difference, under its section; inputs with one key are left out."""
    equal = tuple(f"{name}." for name, key in one["inputs"].items()
                  if two["inputs"].get(name) == key)
    shown = False
    for section in SECTIONS:
        lines = []
        for name in dict.fromkeys([*one[section], *two[section]]):
            a, b = one[section].get(name, ABSENT), two[section].get(name, ABSENT)
            if name.startswith(equal) and not same:
                continue
            if a != b:
                lines.append(f"  {name:32}  {_text(a, b)}  |  {_text(b, a)}{_delta(a, b)}")
            elif same:
                lines.append(f"  {name:32}  {_text(a, b)}")
        if lines:
            shown = True
            yield from (f"{section}:", *lines)
    if not shown:
        yield "nothing differs"


def _text(value: Any, other: Any) -> str:
    if isinstance(value, list) and isinstance(other, list) and len(value) > 6:
        odd = sum(a != b for a, b in zip(value, other, strict=False)) + abs(
            len(value) - len(other))
        return f"{len(value)} values" + (f", {odd} differ" if odd else "")
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text[:12] if len(text) == 64 and not set(text) - set("0123456789abcdef") else text


def _delta(a: Any, b: Any) -> str:
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (a, b))
    return f"  ({b - a:+.4g})" if numbers else ""


run = door(main)

if __name__ == "__main__":
    run()
