"""Which stages wait for which, and which is next: a heap of ready stages, longest chain first."""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence

from ..stages import Stage

# A stage that somebody else is doing is looked at again after this long.
BUSY_SECONDS = 1.0


class Schedule:
    """The state of a run: waiting, ready, put off, blocked. 10,000 stages take milliseconds."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = {stage.key: stage for stage in stages}
        self.missing = {key: {parent.key for parent in stage.inputs.values()
                              if parent.key in self.stages} for key, stage in self.stages.items()}
        self.children: dict[str, list[str]] = {key: [] for key in self.stages}
        for key, parents in self.missing.items():
            for parent in parents:
                self.children[parent].append(key)
        self.priority = critical_path(stages)
        self.left = set(self.stages)
        self.put_off: list[tuple[float, str]] = []
        self.heap: list[tuple[float, int, str]] = []
        self._order = {key: number for number, key in enumerate(self.stages)}
        for key, parents in self.missing.items():
            if not parents:
                self._push(key)

    def next(self) -> Stage | None:
        """Take the ready stage with the longest way still to go, or None for now."""
        while self.put_off and self.put_off[0][0] <= time.monotonic():
            self._push(heapq.heappop(self.put_off)[1])
        if not self.heap:
            return None
        return self.stages[heapq.heappop(self.heap)[2]]

    def later(self, stage: Stage) -> None:
        """Somebody else is doing it: look again soon."""
        heapq.heappush(self.put_off, (time.monotonic() + BUSY_SECONDS, stage.key))

    def done(self, stage: Stage) -> None:
        """Release the stages that waited for this one only."""
        self.left.discard(stage.key)
        for child in self.children[stage.key]:
            self.missing[child].discard(stage.key)
            if not self.missing[child]:
                self._push(child)

    def failed(self, stage: Stage) -> list[str]:
        """Remove a failed stage and all that needed it; returns the keys of the latter."""
        self.left.discard(stage.key)
        blocked, reach = [], list(self.children[stage.key])
        while reach:
            key = reach.pop()
            if key in self.left:
                self.left.discard(key)
                blocked.append(key)
                reach.extend(self.children[key])
        return blocked

    def _push(self, key: str) -> None:
        heapq.heappush(self.heap, (-self.priority[key], self._order[key], key))


def critical_path(stages: Sequence[Stage]) -> dict[str, float]:
    """Cost of the longest chain from each stage to the end, in epochs (other stages count little).

    Starting long chains (DnC: base, experts, distil) first keeps all workers busy to the end.
    """
    remaining = {stage.key: 0.0 for stage in stages}
    for stage in reversed(stages):
        remaining[stage.key] += float(stage.params.get("training", {}).get("epochs", 0.1))
        for parent in stage.inputs.values():
            if parent.key in remaining:
                remaining[parent.key] = max(remaining[parent.key], remaining[stage.key])
    return remaining
