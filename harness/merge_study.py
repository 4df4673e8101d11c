"""Two study.json of one name as one: the union of their cells, refused where they disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .config import folder_name

# What has to be the same for numbers to stand in one table.
SAME = ("grid", "scale", "headline", "interval", "axis", "figure", "training", "data_label")
PLACE = ("method", "condition", "seed", "evaluation")


def union(ours: Mapping[str, Any] | None, theirs: Mapping[str, Any],
          where: str) -> tuple[dict[str, Any], list[str]]:
    """The study with the cells of both, and a line for everything that does not agree.

    `where` names theirs. Labels, titles and commands are ours.
    """
    if ours is None:
        return dict(theirs), []
    name = folder_name(ours["grid"], ours["scale"], ours.get("data", ""))
    problems = [f"{name}: '{key}' is {ours.get(key)!r} here and {theirs.get(key)!r} in {where}"
                for key in SAME if ours.get(key) != theirs.get(key)]
    merged = dict(ours)
    for key, part in (("methods", "method"), ("conditions", "condition")):
        merged[key] = _by_id(ours[key], theirs[key], f"{name}: {part}", where, problems)
    merged["cells"] = _cells(ours["cells"], theirs["cells"], name, where, problems)
    merged["seeds"] = sorted({*ours["seeds"], *theirs["seeds"]})
    merged["evaluations"] = list(dict.fromkeys([*ours["evaluations"], *theirs["evaluations"]]))
    for key in ("protocols", "shots", "ancestry", "papers"):
        if key in ours or key in theirs:
            merged[key] = _mapping(ours.get(key) or {}, theirs.get(key) or {}, f"{name}: {key}",
                                   where, problems)
    for key, told in (("stages", lambda s: s[0]),
                      ("class_counts", lambda c: (c["condition"], c["seed"]))):
        if key in ours or key in theirs:
            entries = [*ours.get(key, ()), *theirs.get(key, ())]
            merged[key] = list({told(entry): entry for entry in reversed(entries)}.values())[::-1]
    merged["failures"] = _failures(ours, theirs)
    return merged, problems


def _by_id(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], what: str,
           where: str, problems: list[str]) -> list[Mapping[str, Any]]:
    found = {entry["id"]: entry for entry in ours}
    for entry in theirs:
        own = found.setdefault(entry["id"], entry)
        for key in ("level", "role", "reference"):
            if own.get(key) != entry.get(key):
                problems.append(f"{what} '{entry['id']}': {key} is {own.get(key)!r} here and "
                                f"{entry.get(key)!r} in {where}")
    return list(found.values())


def _cells(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], name: str,
           where: str, problems: list[str]) -> list[Mapping[str, Any]]:
    """Each cell once; one that is computed otherwise by the two is refused."""
    found = {tuple(cell[k] for k in PLACE): cell for cell in ours}
    odd = []
    for cell in theirs:
        place = tuple(cell[k] for k in PLACE)
        if found.setdefault(place, cell)["key"] != cell["key"]:
            odd.append((place, found[place]["key"], cell["key"]))
    if odd:
        place, one, two = odd[0]
        shown = " / ".join(map(str, place))
        problems.append(
            f"{name}: {shown} is another computation in {where}: key {two[:12]}, here {one[:12]} "
            f"({len(odd)} such cells): compare them with harness.diff {one[:12]} {two[:12]}")
    return list(found.values())


def _mapping(ours: Mapping[str, Any], theirs: Mapping[str, Any], what: str, where: str,
             problems: list[str]) -> dict[str, Any]:
    odd = [key for key in ours if key in theirs and ours[key] != theirs[key]]
    if odd:
        problems.append(f"{what} of '{odd[0][:40]}' differ between here and {where}")
    return {**theirs, **ours}


def _failures(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Failures of cells that only one side plans, or that both saw fail."""
    failed = [{tuple(f[k] for k in PLACE): f for f in side["failures"]} for side in (ours, theirs)]
    planned = [{tuple(c[k] for k in PLACE) for c in side["cells"]} for side in (ours, theirs)]
    kept = {place: f for place, f in failed[1].items()
            if place not in planned[0] or place in failed[0]}
    return list({**kept, **{place: f for place, f in failed[0].items()
                            if place not in planned[1] or place in failed[1]}}.values())
