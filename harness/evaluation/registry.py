"""The evaluations by name: what is run and what may be chosen. No torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.evaluation.splits import Features
from methods.options import Option, build, options_of, unknown

Run = Callable[[Features, Any, "Sequence[int] | None"], dict[str, Any]]
_FOUND: dict[str, Evaluation] = {}


@dataclass(frozen=True)
class Evaluation:
    """One protocol: its name, the revision of its meaning, its options and what does it."""

    name: str
    revision: int
    summary: str
    config: type
    run: Run

    @property
    def options(self) -> dict[str, Option]:
        """The schema of `config`."""
        return options_of(self.config)

    def configure(self, options: Mapping[str, Any]) -> Any:
        """An instance of `config`. Raises ValueError with what is wrong with the options."""
        return build(self.config, options, f"evaluation '{self.name}'")


def register(name: str, *, config: type, revision: int) -> Callable[[Run], Run]:
    """Register `run(data, config, class_counts) -> metrics` as an evaluation."""

    def add(run: Run) -> Run:
        assert name not in _FOUND, f"two evaluations are called '{name}'"
        summary = (run.__doc__ or "").split("\n")[0]
        _FOUND[name] = Evaluation(name, revision, summary, config, run)
        return run

    return add


def evaluation(name: str) -> Evaluation:
    """The evaluation of that name. Raises ValueError with the nearest and all names."""
    if name not in _FOUND:
        raise ValueError(unknown("evaluation", name, _FOUND))
    return _FOUND[name]


def evaluations() -> dict[str, Evaluation]:
    """All of them by name, sorted."""
    return dict(sorted(_FOUND.items()))
