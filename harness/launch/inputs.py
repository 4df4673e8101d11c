"""Whether what a stage reads is there, where others than this run compute it."""

from __future__ import annotations

import os
import time
from collections.abc import Container

from ..claims import is_alive
from ..errors import Failure
from ..stages import Stage
from ..store import Store, read_json

# A folder that another node made may be seen only after its directory is read again (NFS).
SETTLE_SECONDS = 5.0


class Waiting(Exception):
    """An input is being computed elsewhere: look again."""


class Missing(Failure):
    """An input will not come; `key` names it."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class Inputs:
    """The inputs of stages that are not among `own`."""

    def __init__(self, store: Store, own: Container[str]) -> None:
        self.store, self.own = store, own
        self._missed: dict[str, float] = {}

    def check(self, stage: Stage) -> None:
        """Return if all inputs are there.

        Raises Waiting while one is being computed, and Missing when one failed, or when nobody
        computes it.
        """
        for parent in stage.inputs.values():
            if parent.key not in self.own and not self._has(parent):
                self._missing(parent)

    def _has(self, parent: Stage) -> bool:
        if self.store.has(parent.kind, parent.key):
            return True
        try:
            return parent.key in os.listdir(self.store.path(parent).parent)
        except FileNotFoundError:
            return False

    def _missing(self, parent: Stage) -> None:
        name = f"input {parent.kind} {parent.key[:12]}"
        if is_alive(self.store.root / "claims" / f"{parent.key}.json"):
            raise Waiting(parent.key)
        try:
            failure = read_json(self.store.root / "failures" / f"{parent.key}.json")
        except FileNotFoundError:
            first = self._missed.setdefault(parent.key, time.monotonic())
            if time.monotonic() - first < SETTLE_SECONDS:
                raise Waiting(parent.key) from None
            raise Missing(f"{name} is not there: its job ended without it", parent.key) from None
        raise Missing(f"{name} failed: {failure['cause']}", parent.key)
