"""From the stages of a plan to jobs: which stages share a worker, an allocation, an array.

A *unit* is a chain that one worker does in turn (a pre-training, its features, its evaluations);
what can run side by side (DnC's experts) are units of their own. A *job* is one allocation: a unit,
or several small ones packed. Jobs of the same resources that wait for the same jobs are an *array*.
All are values; nothing here knows a batch system.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..stages import Stage
from .resources import Resources, of
from .schedule import critical_path


@dataclass(eq=False)
class Unit:
    """Stages, inputs first, for one worker; `inputs` are the keys that others compute."""

    resources: Resources
    stages: list[Stage] = field(default_factory=list)

    @property
    def inputs(self) -> set[str]:
        """Keys that the stages read and that are not among them."""
        own = {stage.key for stage in self.stages}
        return {parent.key for stage in self.stages for parent in stage.inputs.values()} - own


@dataclass(frozen=True)
class Job:
    """One allocation: units, how many of them at a time, and what must have ended before.

    `after`: numbers of jobs of the same submission; `after_ids`: the batch system's ids of others'.
    """

    number: int
    units: tuple[Unit, ...]
    resources: Resources
    side_by_side: int = 1
    after: frozenset[int] = frozenset()
    after_ids: frozenset[str] = frozenset()

    @property
    def stages(self) -> list[Stage]:
        """All stages of all units."""
        return [stage for unit in self.units for stage in unit.stages]


@dataclass(frozen=True)
class Packing:
    """How many units share an allocation: `side_by_side` at a time, `turns` one after another."""

    side_by_side: int = 1
    turns: int = 1

    @property
    def units(self) -> int:
        """Units of one job."""
        return self.side_by_side * self.turns


def divide(stages: Sequence[Stage], resources: Mapping[str, Resources]) -> list[Unit]:
    """The units of `stages` (inputs first), in an order in which each follows what it reads."""
    units: list[Unit] = []
    home: dict[str, Unit] = {}
    for stage in stages:
        homes = {home[parent.key] for parent in stage.inputs.values() if parent.key in home}
        unit = homes.pop() if len(homes) == 1 and not _trains(stage) else None
        wanted = of(stage, resources)
        if unit is None or unit.resources != wanted:
            unit = Unit(wanted)
            units.append(unit)
        unit.stages.append(stage)
        home[stage.key] = unit
    return _ordered(_split(units, home))


def _trains(stage: Stage) -> bool:
    """Whether a stage is long: it pre-trains, or fine-tunes an encoder."""
    return stage.kind == "pretrain" or stage.kind == "evaluate" and "features" not in stage.inputs


def _split(units: Sequence[Unit], home: Mapping[str, Unit]) -> list[Unit]:
    """Where other units wait for one: what they do not need leaves it, so that they wait less."""
    outside: dict[int, set[str]] = {}
    for unit in units:
        for key in unit.inputs & set(home):
            outside.setdefault(id(home[key]), set()).add(key)
    found: list[Unit] = []
    for unit in units:
        needed = set(outside.get(id(unit), ()))
        for stage in reversed(unit.stages):
            if stage.key in needed:
                needed |= {parent.key for parent in stage.inputs.values()}
        first = [stage for stage in unit.stages if stage.key in needed]
        rest = [stage for stage in unit.stages if stage.key not in needed]
        found += [Unit(unit.resources, part) for part in (first, rest) if part]
    return found


def _ordered(units: Sequence[Unit]) -> list[Unit]:
    """Units after those they read from; among equals those with the longest way to go first."""
    depth = _depths(units)
    remaining = critical_path([stage for unit in units for stage in unit.stages])
    way = {id(unit): max(remaining[stage.key] for stage in unit.stages) for unit in units}
    return sorted(units, key=lambda unit: (depth[id(unit)], -way[id(unit)]))


def _depths(units: Sequence[Unit]) -> dict[int, int]:
    """How many units in a row each waits for."""
    home = {stage.key: unit for unit in units for stage in unit.stages}
    depth: dict[int, int] = {}

    def visit(unit: Unit) -> int:
        if id(unit) not in depth:
            depth[id(unit)] = max((1 + visit(home[key]) for key in unit.inputs if key in home),
                                  default=0)
        return depth[id(unit)]

    for unit in units:
        visit(unit)
    return depth


def jobs(units: Sequence[Unit], packing: Callable[[Unit], Packing],
         elsewhere: Mapping[str, str]) -> list[Job]:
    """Group units (as `divide` orders them) into jobs, none before what it waits for.

    `elsewhere`: key -> id of the job of another submission that computes it now.
    """
    depth = _depths(units)
    made: list[Job] = []
    number_of: dict[str, int] = {}
    for level in range(max(depth.values(), default=-1) + 1):
        groups: dict[tuple[frozenset[int], frozenset[str], Resources, Packing], list[Unit]] = {}
        for unit in units:
            if depth[id(unit)] == level:
                after = frozenset(number_of[key] for key in unit.inputs if key in number_of)
                others = frozenset(elsewhere[key] for key in unit.inputs if key in elsewhere)
                groups.setdefault((after, others, unit.resources, packing(unit)), []).append(unit)
        for (after, others, resources, packed), members in groups.items():
            for start in range(0, len(members), packed.units):
                part = tuple(members[start:start + packed.units])
                made.append(Job(len(made), part, resources, min(packed.side_by_side, len(part)),
                                after, others))
        number_of |= {stage.key: job.number for job in made for stage in job.stages}
    return made


def arrays(made: Sequence[Job], largest: int) -> list[list[Job]]:
    """Jobs that can be one array, at most `largest` in each; in an order to submit them in."""
    groups: dict[tuple[object, ...], list[Job]] = {}
    for job in made:
        shape = (job.after, job.after_ids, job.resources, job.side_by_side)
        groups.setdefault(shape, []).append(job)
    found = [group[start:start + largest] for group in groups.values()
             for start in range(0, len(group), largest)]
    return sorted(found, key=lambda group: group[0].number)
