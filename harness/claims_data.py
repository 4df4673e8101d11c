"""What papers claim, as data: each claim a comparison that records can support or contradict.

    paper_tables/<paper>/claims.yaml

A claim names sides (rows of a grid, the better first), the condition they are compared on, and what
is measured. Numbers that the paper prints for it are not written again: `published` holds addresses
of cells, TABLE:ROW:COLUMN, one for each side. No torch.

    difference, mechanism   sides [A, B]: A is better than B (mechanism: in a diagnostic metric)
    ordering                sides [A, B, C, ...]: each is better than the next
    interaction             sides [A, B, C, D]: A - B is larger than C - D
    trend                   sides [A] or [A, B]: A, or A - B, rises or falls along the grid's axis
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .config import GROUPS, choices
from .errors import UserError, unknown
from .papers import FOLDER, PaperTable, cell, tables

# Kind -> the numbers of sides that it may have.
SIDES = {"difference": (2,), "mechanism": (2,), "ordering": (3, 4, 5), "interaction": (4,),
         "trend": (1, 2)}
DIRECTIONS = ("rising", "falling")
BETTER = ("higher", "lower")
LEVELS = ("lowest", "highest")
FILE = ("paper", "defaults", "claims")
CLAIM = ("id", "statement", "source", "kind", "grid", "sides", "condition", "evaluation", "metric",
         "better", "direction", "minimum", "published", "note")
SIDE = ("row", "condition", "evaluation", "metric")
DEFAULTS = ("evaluation", "metric", "minimum")
OPTIONAL = ("condition", "better", "direction", "published", "note", *DEFAULTS)


@dataclass(frozen=True)
class Side:
    """A row of a grid as it is measured: `condition` is a role, a level of the axis, or None
    (trends)."""

    row: str
    condition: str | float | None
    evaluation: str
    metric: str


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper and the comparison that tests it.

    `minimum` is the smallest effect that would matter, in the metric's printed unit (of a trend: of
    the slope per doubling on a log axis, per unit elsewhere); `published` the paper's own numbers
    for the sides, in order, or empty; `grid` the one whose records it is tested on.
    """

    id: str
    paper: str
    statement: str
    source: str
    kind: str
    grid: str
    sides: tuple[Side, ...]
    minimum: float
    better: str = "higher"
    direction: str = "rising"
    published: tuple[float, ...] = ()
    cells: tuple[str, ...] = ()
    note: str = ""

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows it needs, each once."""
        return tuple(dict.fromkeys(side.row for side in self.sides))

    @property
    def evaluations(self) -> tuple[str, ...]:
        """The evaluations it needs, each once."""
        return tuple(dict.fromkeys(side.evaluation for side in self.sides))

    @property
    def effects(self) -> tuple[float, ...]:
        """The published effects, positive where they are as claimed; empty if none is printed."""
        if not self.published:
            return ()
        sign = -1.0 if self.better == "lower" else 1.0
        return tuple(sign * sum(w * v for w, v in zip(link, self.published, strict=True))
                     for link in links(self.kind, len(self.published)))


def links(kind: str, sides: int) -> list[tuple[float, ...]]:
    """The comparisons of a claim: each a weight for every side. All must hold."""
    if kind == "interaction":
        return [(1.0, -1.0, -1.0, 1.0)]
    if kind == "trend":
        return [(1.0, -1.0)[:sides]]
    return [tuple(1.0 if i == j else -1.0 if i == j + 1 else 0.0 for i in range(sides))
            for j in range(sides - 1)]


def claims(folder: Path | str = FOLDER) -> dict[str, Claim]:
    """Every claim by id ("dnc/uncurated_moclr"), paper by paper, as the files order them.

    Raises UserError, one line, for the first file that is not as it should be.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*/claims.yaml"))
    if not files:
        raise UserError(f"no claims.yaml in {folder}: they come with the repository; run in a "
                        "clone, installed by `pip install -e .`")
    known = tables() if any("published" in path.read_text(encoding="utf-8") for path in files) \
        else {}
    found: dict[str, Claim] = {}
    for path in files:
        where = f"{path.parent.name}/claims.yaml"
        data = _read(path, where)
        _keys(data, FILE, where, ("defaults",))
        _keys(data.get("defaults") or {}, DEFAULTS, f"{where}: defaults", DEFAULTS)
        if not isinstance(data["claims"], list) or not data["claims"]:
            raise UserError(f"{where}: claims must be a list of at least one")
        for i, entry in enumerate(data["claims"], 1):
            if not isinstance(entry, Mapping):
                raise UserError(f"{where}: claim {i} must be a mapping of {', '.join(CLAIM)}")
            claim = _claim({**(data.get("defaults") or {}), **entry}, path.parent.name,
                           f"{where}: claim {entry.get('id', i)}", known)
            if claim.id in found:
                raise UserError(f"{where}: two claims have the id '{claim.id}'; rename one")
            found[claim.id] = claim
    return found


def _read(path: Path, where: str) -> dict[str, Any]:
    try:
        found = yaml.load(path.read_text(encoding="utf-8"),
                          Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise UserError(f"{where}: a mapping is expected, this is {type(found).__name__}")
    return found


def _keys(data: Any, names: Sequence[str], where: str, optional: Sequence[str] = ()) -> None:
    if not isinstance(data, Mapping):
        raise UserError(f"{where} must be a mapping of {', '.join(names)}")
    for name in data:
        if name not in names:
            raise unknown("entry", str(name), names, where)
    lacking = [name for name in names if name not in data and name not in optional]
    if lacking:
        raise UserError(f"{where} lacks {', '.join(lacking)}")


def _claim(data: Mapping[str, Any], paper: str, where: str,
           known: Mapping[str, PaperTable]) -> Claim:
    _keys(data, CLAIM, where, OPTIONAL)
    for name in ("id", "statement", "source"):
        if not isinstance(data[name], str) or not data[name].strip():
            raise UserError(f"{where}: {name} must be a text")
    if not data["id"].startswith(f"{paper}/"):
        raise UserError(f"{where}: the id begins with its paper: write {paper}/{data['id']}")
    _one_of(data["kind"], SIDES, "kind", where)
    _one_of(data.get("better", "higher"), BETTER, "better", where)
    _one_of(data["grid"], choices(GROUPS[0]), "grid", where)
    if (data["kind"] == "trend") != ("direction" in data):
        raise UserError(f"{where}: direction (rising or falling) belongs to a trend, and only "
                        "there")
    _one_of(data.get("direction", "rising"), DIRECTIONS, "direction", where)
    minimum = data.get("minimum")
    if isinstance(minimum, bool) or not isinstance(minimum, (int, float)) or minimum < 0:
        raise UserError(f"{where}: minimum is '{minimum}'; write a number >= 0")
    claim = Claim(
        data["id"], paper, data["statement"].strip(), data["source"], data["kind"], data["grid"],
        _sides(data, where), float(minimum), data.get("better", "higher"),
        data.get("direction", "rising"), *_published(data, where, known), data.get("note", ""))
    if any(effect <= 0 for effect in claim.effects):
        raise UserError(f"{where}: the published numbers {claim.published} do not say so; correct "
                        "the order of sides or of published")
    return claim


def _one_of(value: Any, names: Any, what: str, where: str) -> None:
    if value not in names:
        raise unknown(what, str(value), names, where)


def _sides(data: Mapping[str, Any], where: str) -> tuple[Side, ...]:
    given, kind = data["sides"], data["kind"]
    if not isinstance(given, list) or len(given) not in SIDES[kind]:
        allowed = " or ".join(map(str, SIDES[kind]))
        raise UserError(f"{where}: a claim of kind {kind} has {allowed} sides")
    sides = tuple(_side(side, data, f"{where}: side {i}") for i, side in enumerate(given, 1))
    if len(set(sides)) < len(sides):
        raise UserError(f"{where}: two sides are the same; nothing can differ")
    return sides


def _side(given: Any, data: Mapping[str, Any], where: str) -> Side:
    given = {"row": given} if isinstance(given, str) else given
    _keys(given, SIDE, where, ("condition", "evaluation", "metric"))
    whole = {name: given.get(name, data.get(name)) for name in SIDE}
    for name in ("row", "evaluation", "metric"):
        if not isinstance(whole[name], str):
            raise UserError(f"{where}: {name} must be a name, got {whole[name]!r}")
    on = whole["condition"]
    if data["kind"] == "trend":
        if on is not None:
            raise UserError(f"{where}: a trend is over the levels of its grid's axis; leave out "
                            "condition")
    elif isinstance(on, bool) or not isinstance(on, (str, int, float)):
        raise UserError(f"{where}: condition must be a role (curated), lowest, highest or a "
                        f"level of the axis, got {on!r}")
    return Side(whole["row"], float(on) if isinstance(on, int) else on, whole["evaluation"],
                whole["metric"])


def _published(data: Mapping[str, Any], where: str,
               known: Mapping[str, PaperTable]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """The values of the cells that `published` names, and their addresses."""
    addresses = data.get("published") or []
    if not addresses:
        return (), ()
    if not isinstance(addresses, list) or len(addresses) != len(data["sides"]):
        raise UserError(f"{where}: published has an address for each of the "
                        f"{len(data['sides'])} sides, or is left out")
    values = []
    for address in addresses:
        parts = str(address).split(":")
        if len(parts) != 3:
            raise UserError(f"{where}: published: '{address}' is no TABLE:ROW:COLUMN")
        if parts[0] not in known:
            raise unknown("table", parts[0], known, f"{where}: published")
        try:
            values.append(float(cell(known[parts[0]], parts[1], parts[2]).value))
        except UserError as error:
            raise UserError(f"{where}: published: {error}") from None
    return tuple(values), tuple(map(str, addresses))


def listing() -> dict[str, dict[str, Any]]:
    """Every claim for `harness.list claims`."""
    return {claim.id: {
        "summary": claim.statement, "kind": claim.kind, "paper_source": claim.source,
        "grid": claim.grid, "sides": [_told(side) for side in claim.sides],
        "minimum": f"{claim.minimum:g}", "published": [
            f"{address}: {value:g}" for address, value in zip(claim.cells, claim.published,
                                                              strict=True)],
        "note": claim.note,
    } for claim in claims().values()}


def _told(side: Side) -> str:
    """"dnc on uncurated, linear balanced"."""
    on = "" if side.condition is None else " on " + (
        f"{side.condition:g}" if isinstance(side.condition, float) else side.condition)
    return f"{side.row}{on}, {side.evaluation} {side.metric}"
