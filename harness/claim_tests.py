"""Claims against records: the paired test of each, corrected over its paper's sheet, and a verdict.

One study tests a claim by itself; studies are never pooled. Each seed gives one value for each
link of a claim (A - B; (A - B) - (C - D); the slope of A - B), so all is a t test over seeds. The
family of Holm's correction is the claims of one paper that one scale and data can test. A claim of
several links holds where all do (the largest p, an intersection-union test) and falls where one
does (the smallest, times the links).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .claims_data import Claim, Side, claims, links
from .evaluation.measures import measure
from .measured import Condition, Measured, describe
from .papers import FOLDER
from .statistics import MOST_SEEDS, SAME, Estimate, Floats, holm, seeds_for, summarise

SUPPORTED, CONTRADICTED = "supported", "contradicted"
INCONCLUSIVE, NOT_RUN = "inconclusive", "not run"
VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_RUN)
# Epochs of experts are rounded to steps: equal budgets may differ in images seen by so much.
EQUAL_BUDGET = 0.02
# What a claim says that is tested at equal budgets only, and how a note begins that they are not.
AT_EQUAL, UNEQUAL = "at equal budget", "not of equal budget: "
SEEDS_IN_A_COMMAND = 20


@dataclass(frozen=True)
class Link:
    """One comparison: the mean over seeds, positive where it is as claimed.

    `effect` is the mean in standard deviations of the pairs (d_z); `p` is two-sided against 0,
    `p_minimum` against the smallest effect that matters, both uncorrected. Where no test was
    possible they are NaN.
    """

    name: str
    estimate: Estimate
    effect: float
    p: float
    p_minimum: float
    seeds: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Entry:
    """A claim on one study, or on none. `p` supports and `p_against` contradicts, both corrected
    over `family` claims; `further` are the seeds beside ours that would settle it, None where that
    is more than `MOST_SEEDS` or cannot be said. `keys` are the evaluations behind it; `study` is
    its folder's name ("curation_gap-laptop"), "" where there is none."""

    claim: Claim
    verdict: str
    why: str
    links: tuple[Link, ...] = ()
    grid: str = ""
    scale: str = ""
    data: str = ""
    p: float = math.nan
    p_against: float = math.nan
    family: int = 0
    further: int | None = None
    notes: tuple[str, ...] = ()
    command: str = ""
    keys: tuple[str, ...] = ()
    study: str = ""

    @property
    def weakest(self) -> Link | None:
        """The link with the smallest mean."""
        found = [link for link in self.links if not link.estimate.missing]
        return min(found, key=lambda link: float(link.estimate.mean), default=None)


@dataclass(frozen=True)
class ClaimSheet:
    """Every claim with its verdict; `refused` are studies that could not be read, and why;
    `evaluations` how many are behind it, one that several studies share counted once."""

    entries: tuple[Entry, ...]
    level: float
    refused: tuple[str, ...] = ()
    studies: tuple[tuple[str, str, str], ...] = ()  # name, data, note
    evaluations: int = 0

    def count(self, verdict: str) -> int:
        """How many entries have that verdict."""
        return sum(entry.verdict == verdict for entry in self.entries)


def claims_sheet(found: Sequence[Measured], folder: Path | str = FOLDER,
                 refused: Sequence[str] = (), scale: str = "laptop") -> ClaimSheet:
    """The verdict on every claim, by every study that has its grid.

    `scale` is the one that commands name for what no study has. Raises UserError for claims that
    are not as they should be.
    """
    level = found[0].study.level if found else 0.95
    entries = []
    for claim in claims(folder).values():
        own = [m for m in found if m.study.grid == claim.grid and not m.study.papers]
        entries += [_tested(claim, m) for m in own] or [Entry(
            claim, NOT_RUN, f"no study of grid={claim.grid} here", grid=claim.grid,
            command=_command(claim, scale))]
    studies = tuple((m.study.name, m.study.data_label,
                     " ".join(filter(None, (m.study.note, *m.notes)))) for m in found)
    keys = {key for m in found for key in m.records["evaluate_key"].unique()}
    return ClaimSheet(tuple(judged(_once(entries), level)), level, tuple(refused), studies,
                      len(keys))


def _once(entries: Iterable[Entry]) -> list[Entry]:
    """Without those that test a claim on the very evaluations of another: a copy of a study would
    otherwise enlarge the family that Holm's correction is over."""
    kept: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        same = (entry.claim.id, entry.scale, entry.data, entry.keys, entry.why)
        kept.setdefault(same, entry)
    return list(kept.values())


def _command(claim: Claim, scale: str) -> str:
    return f"python -m harness.sweep grid={claim.grid} scale={scale}"


# -- from records to values -----------------------------------------------------------------------


def _tested(claim: Claim, measured: Measured) -> Entry:
    """The claim's links by the records of one study; the verdict is given with its family."""
    study = measured.study
    entry = Entry(claim, NOT_RUN, "", study=study.name, grid=study.grid, scale=study.scale,
                  data=study.data_label, command=study.command)
    reason, columns = _columns(claim, measured)
    if reason:
        return replace(entry, why=reason)
    values, series = _values(claim, measured, columns)
    seeds = [np.flatnonzero(~np.isnan(row)) for row in values]
    if not any(map(len, seeds)):
        return replace(entry, why=_why_empty(claim, measured, columns))
    made = tuple(_links(claim, measured, values))
    notes = (*_dropped(measured, columns, series), *_budgets(claim, measured, columns))
    return replace(entry, verdict=INCONCLUSIVE, links=made, notes=notes,
                   keys=_keys(measured, columns))


Columns = list[list[tuple[Side, Condition]]]


def _columns(claim: Claim, measured: Measured) -> tuple[str, Columns]:
    """The cells of each side; a trend's sides have one for each level. Or why there are none."""
    study = measured.study
    rows = {m.id for m in study.methods}
    if lacking := [row for row in claim.rows if row not in rows]:
        return f"the study has no row {', '.join(lacking)}", []
    if lacking := [e for e in claim.evaluations if e not in study.evaluations]:
        return f"the study has no evaluation {', '.join(lacking)}", []
    columns: Columns = []
    for side in claim.sides:
        wanted = _conditions(side, claim, study.conditions)
        if not wanted:
            return f"the study has no condition '{side.condition}'" if side.condition is not None \
                else "the study's axis has fewer than two levels", []
        columns.append([(side, condition) for condition in wanted])
    return "", columns


def _conditions(side: Side, claim: Claim, known: Sequence[Condition]) -> list[Condition]:
    levels = sorted((c for c in known if c.level is not None), key=lambda c: c.level or 0.0)
    if claim.kind == "trend":
        return levels if len(levels) > 1 else []
    if side.condition in ("lowest", "highest"):
        return levels[:1] if side.condition == "lowest" else levels[-1:]
    if isinstance(side.condition, float):
        return [c for c in levels if c.level == side.condition][:1]
    return [c for c in known if side.condition in (c.role, c.id)][:1]


def _values(claim: Claim, measured: Measured, columns: Columns) -> tuple[Floats, Floats]:
    """One value for each link and seed, positive as claimed: (links, seeds), NaN where a cell is
    missing; and every cell's own, (cells, seeds)."""
    series = [np.stack([_cell(measured, side, condition) for side, condition in column])
              for column in columns]
    sides = [_slope(column, rows, measured.study.axis_log) if claim.kind == "trend" else rows[0]
             for column, rows in zip(columns, series, strict=True)]
    sign = -1.0 if (claim.better == "lower") != (claim.kind == "trend"
                                                 and claim.direction == "falling") else 1.0
    weights = np.array(links(claim.kind, len(sides)))
    values = np.full((len(weights), len(measured.seeds)), np.nan)
    for i, link in enumerate(weights):
        used = np.flatnonzero(link)
        values[i] = sign * sum(link[j] * sides[j] for j in used)
    return values, np.concatenate(series)


def _cell(measured: Measured, side: Side, condition: Condition) -> Floats:
    """The values of a row on a condition, by seed; NaN where nothing was measured."""
    cube = measured.cubes.get((side.evaluation, side.metric))
    if cube is None:
        return np.full(len(measured.seeds), np.nan)
    row = [m.id for m in measured.study.methods].index(side.row)
    return cube.values[row, measured.study.conditions.index(condition)]


def _slope(column: Sequence[tuple[Side, Condition]], rows: Floats, log: bool) -> Floats:
    """Least-squares slope along the axis, by seed; per doubling on a log axis.

    A seed without a level has none: the slope of what is left would be another quantity.
    """
    x = np.array([condition.level for _, condition in column], dtype=np.float64)
    x = np.log2(x) if log else x
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return weights @ rows


def _links(claim: Claim, measured: Measured, values: Floats) -> Iterable[Link]:
    kind = measure(claim.sides[0].metric)
    least = claim.minimum / kind.scale
    name = "t" if claim.kind == "trend" and len(claim.sides) == 1 else "paired t"
    summary = summarise(values, measured.study.level, name)
    against = summarise(values - least, measured.study.level).p
    labels = _labels(claim, measured)
    for i, estimate in enumerate(summary.estimates()):
        there = np.flatnonzero(~np.isnan(values[i]))
        with np.errstate(invalid="ignore", divide="ignore"):
            effect = np.float64(estimate.mean) / np.float64(estimate.sd)
        yield Link(labels[i], replace(estimate, scale=kind.scale, digits=kind.digits),
                   float(effect) if estimate.sd > SAME else math.nan, float(summary.p[i]),
                   float(against[i]), tuple(measured.seeds[j] for j in there),
                   tuple(float(values[i, j]) for j in there))


def _labels(claim: Claim, measured: Measured) -> list[str]:
    """"DnC - MoCLR" for each link, with the evaluations where they are what differs."""
    known = {m.id: m.label for m in measured.study.methods}
    names = [known[side.row] for side in claim.sides]
    if len({side.condition for side in claim.sides}) > 1:
        names = [f"{name} {side.condition}" for name, side in zip(names, claim.sides, strict=True)]
    elif len(claim.evaluations) > 1:
        names = [describe(side.evaluation, side.metric) for side in claim.sides]
    if claim.kind == "interaction":
        return [f"({names[0]} - {names[1]}) - ({names[2]} - {names[3]})"]
    if claim.kind == "trend":
        per = "per doubling" if measured.study.axis_log else "per unit"
        return [f"slope {per} of {' - '.join(names)}"]
    return [f"{a} - {b}" for a, b in zip(names, names[1:], strict=False)]


def _why_empty(claim: Claim, measured: Measured, columns: Columns) -> str:
    """Why no seed has all that the claim needs."""
    causes = []
    for side, condition in (cell for column in columns for cell in column):
        if np.isnan(_cell(measured, side, condition)).all():
            failed = [f.cause for f in measured.study.failures if (
                f.method, f.condition, f.evaluation) == (side.row, condition.id, side.evaluation)]
            causes.append(f"{side.row} on {condition.label}: "
                          + (f"failed: {failed[0]}" if failed else "not run yet"))
    return "; ".join(dict.fromkeys(causes)) or "no seed has every cell that it needs"


def _dropped(measured: Measured, columns: Columns, series: Floats) -> list[str]:
    """Seeds of which a cell is missing, and which cell."""
    cells = [cell for column in columns for cell in column]
    notes = []
    for i, seed in enumerate(measured.seeds):
        gone = [f"{side.row} on {condition.label}" for (side, condition), row
                in zip(cells, series, strict=True) if np.isnan(row[i])]
        if gone:
            notes.append(f"seed {seed} is left out: without {', '.join(dict.fromkeys(gone))}")
    return notes


def _budgets(claim: Claim, measured: Measured, columns: Columns) -> list[str]:
    """Whether the rows saw as many images; those that are not trained see none."""
    if len(claim.rows) < 2:
        return []
    cells = {(side.row, condition.id) for column in columns for side, condition in column}
    frame = measured.records[["method", "condition", "images_seen"]]
    seen = {str(row): float(part["images_seen"].median()) for row, part in frame.groupby("method")
            if any((row, condition) in cells for condition in part["condition"].unique())}
    trained = {row: images for row, images in seen.items() if images > 0}
    if not trained or max(trained.values()) <= min(trained.values()) * (1 + EQUAL_BUDGET):
        return []
    listed = ", ".join(f"{row} {images:,.0f}" for row, images in trained.items())
    return [f"{UNEQUAL}images seen {listed}"]


def _keys(measured: Measured, columns: Columns) -> tuple[str, ...]:
    """The evaluation of every cell and seed, from the plan."""
    cells = measured.study.cells
    return tuple(cells[place] for column in columns for side, condition in column
                 for seed in measured.seeds
                 if (place := (side.row, condition.id, seed, side.evaluation)) in cells)


# -- verdicts -------------------------------------------------------------------------------------


def judged(entries: Sequence[Entry], level: float) -> list[Entry]:
    """Entries with their verdicts; those of one paper, scale and data are a family."""
    families: dict[tuple[str, str, str], list[int]] = {}
    for i, entry in enumerate(entries):
        if entry.links:
            families.setdefault((entry.claim.paper, entry.scale, entry.data), []).append(i)
    result = list(entries)
    for places in families.values():
        both = [_both(entries[i].links, entries[i].claim) for i in places]
        support, against = (holm([pair[side] for pair in both]) for side in (0, 1))
        family = sum(not math.isnan(pair[0]) for pair in both)
        for i, *p in zip(places, support.tolist(), against.tolist(), strict=True):
            result[i] = _verdict(replace(entries[i], p=p[0], p_against=p[1], family=family), level)
    return result


def _both(made: Sequence[Link], claim: Claim) -> tuple[float, float]:
    """Uncorrected p of a claim: that all links are > 0, that one is < its minimum."""
    if any(math.isnan(link.p) for link in made):
        return math.nan, math.nan
    least = _least(made[0], claim)
    holds = max(link.p if link.estimate.mean > 0 else 1.0 for link in made)
    falls = min(link.p_minimum if link.estimate.mean < least else 1.0 for link in made)
    return holds, min(1.0, falls * len(made))


def _least(link: Link, claim: Claim) -> float:
    return claim.minimum / link.estimate.scale


def _verdict(entry: Entry, level: float) -> Entry:
    """Supported, contradicted, or inconclusive with what would settle it."""
    alpha, made = 1 - level, entry.links
    unequal = next((note for note in entry.notes if note.startswith(UNEQUAL)), "")
    if unequal and AT_EQUAL in entry.claim.statement:
        return replace(entry, why=f"not comparable, {unequal}")
    if math.isnan(entry.p):
        few = min(link.estimate.n for link in made)
        why = f"n={few}: a test needs at least two seeds" if few < 2 else \
            "the seeds do not differ at all, so there is no spread to test against"
        return replace(entry, why=why)
    enough = all(link.estimate.mean >= _least(link, entry.claim) for link in made)
    if entry.p < alpha and enough:
        return replace(entry, verdict=SUPPORTED, why="as claimed")
    if entry.p_against < alpha:
        wrong = entry.weakest
        assert wrong is not None
        opposite = wrong.estimate.mean < 0 and wrong.p < alpha
        return replace(entry, verdict=CONTRADICTED, why="the opposite is so" if opposite else
                       f"less than {_minimum(entry)} is shown: too little to matter")
    return _further(entry, alpha, enough)


def _minimum(entry: Entry) -> str:
    noun = measure(entry.claim.sides[0].metric).noun
    return f"{entry.claim.minimum:g} {noun}"


def _further(entry: Entry, alpha: float, enough: bool) -> Entry:
    """How many more seeds would settle it, if effect and spread stay as they are.

    Eighty percent power at Holm's first, strictest step; towards support where every link is as
    large as matters, else towards contradiction.
    """
    made, least = entry.links, _least(entry.links[0], entry.claim)
    if enough:
        needed = [seeds_for(abs(link.effect), alpha / entry.family) for link in made]
        n = None if None in needed else max(k for k in needed if k is not None)
    else:
        small = [link for link in made if link.estimate.mean < least]
        found = [seeds_for((least - link.estimate.mean) / link.estimate.sd,
                           alpha / (entry.family * len(made))) for link in small]
        n = min((k for k in found if k is not None), default=None)
    now, toward = min(link.estimate.n for link in made), "support" if enough else "contradict"
    if n is None:
        why = f"more than {MOST_SEEDS} seeds would be needed to {toward} it"
        return replace(entry, why=why)
    more = max(1, n - now)
    seeds = f"{more} more seed{'s' if more > 1 else ''}"
    return replace(entry, why=f"{seeds} would {toward} it (80 % power)", further=more,
                   command=_with_seeds(entry.command, made, more))


def _with_seeds(command: str, made: Sequence[Link], more: int) -> str:
    """The study's command with its seeds and as many new ones; "" where they fill a screen."""
    ours = sorted({seed for link in made for seed in link.seeds})
    new = [seed for seed in range(max(ours) + 1 + more) if seed not in ours][:more]
    bare = re.sub(r"\s+(grid\.seeds=\[[^\]]*\]|repair=\S+)", "", command)
    listed = ",".join(map(str, sorted([*ours, *new])))
    return f"{bare} grid.seeds=[{listed}]" if more <= SEEDS_IN_A_COMMAND else ""
