"""Errors of the data layer: one line each, with the remedy."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class DatasetError(ValueError):
    """A dataset specification that cannot be built; `problems` holds one line per mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class TooFewImages(ValueError):
    """A class has fewer images than asked for. The total `feasible` is the largest that fits."""

    def __init__(self, label: int, needed: int, available: int, excess: int) -> None:
        self.label, self.needed, self.available, self.excess = label, needed, available, excess
        super().__init__(self.line(f"class {label}"))

    def line(self, name: str) -> str:
        """The message with a class name in place of its number."""
        if self.excess < 0:
            return f"needs {self.needed} images of {name}, has {self.available}"
        return (f"needs {self.needed} images of {name}, has {self.available}: "
                f"reduce size by {self.excess}")


def unknown(kind: str, name: object, options: Iterable[str]) -> str:
    """One line for a name that does not exist, with the nearest match and all options."""
    names = sorted(options)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} '{name}'.{hint} Available: {', '.join(names) or 'none'}"
