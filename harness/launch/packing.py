"""How many small units share an allocation: as the user says, or by what the store has measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..estimate import Rates
from ..store import Store
from .units import Packing, Unit

# Filled to this share of the memory, since the last units measured may not have been the largest.
MEMORY_SHARE = 0.8
# Units in turn are taken until an allocation has this much to do: starting one costs seconds.
TURN_SECONDS = 600.0
MOST = 64


def packing(store: Store, launcher: Mapping[str, Any]) -> Callable[[Unit], Packing]:
    """The packing of a unit: `launcher.pack` and `launcher.turns`, each measured where not given.

    Side by side: as many as fit into `launcher.gpu_memory_gb` (on a CPU: one, since cores are
    asked for by unit). In turn: so many that their measured time is ten minutes. What the store
    has not measured is not packed.
    """
    rates = Rates(store) if launcher["pack"] is None or launcher["turns"] is None else None

    def of(unit: Unit) -> Packing:
        if unit.resources.ranks > 1:
            return Packing()
        side_by_side = launcher["pack"] or _fits(rates, unit, launcher["gpu_memory_gb"])
        turns = launcher["turns"] or _turns(rates, unit)
        return Packing(side_by_side, turns)

    return of


def _fits(rates: Rates | None, unit: Unit, memory_gb: float | None) -> int:
    assert rates is not None
    needs = [rates.memory(stage) for stage in unit.stages]
    largest = max((need for need in needs if need), default=0.0)
    if not unit.resources.gpus or not memory_gb or not largest or needs[0] is None:
        return 1
    return max(1, min(MOST, int(MEMORY_SHARE * memory_gb * 1024 / largest)))


def _turns(rates: Rates | None, unit: Unit) -> int:
    assert rates is not None
    seconds = [rates.seconds(stage) for stage in unit.stages]
    known = [value for value in seconds if value is not None]
    if len(known) < len(seconds):
        return 1
    return max(1, min(MOST, int(TURN_SECONDS / max(sum(known), 0.1))))
