"""The evaluations by name: what is run and what may be chosen. No torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.evaluation.measures import CLASSIFICATION, MAP11, MEAN_PER_CLASS, TOP5
from methods.options import Option, build, options_of, unknown

# run(data, config, class_counts) -> metrics; `data` is Features, or a Subject for takes="encoder"
Run = Callable[[Any, Any, "Sequence[int] | None"], dict[str, Any]]
TAKES = ("features", "encoder")
_FOUND: dict[str, Evaluation] = {}


@dataclass(frozen=True)
class Evaluation:
    """One protocol: its name, the revision of its meaning, its options and what does it.

    takes: "features", the three splits embedded once for all evaluations (`splits.Features`), or
    "encoder", the network itself with the images (`subject.Subject`);
    metrics: the names among what it returns that records keep;
    several: whether it takes images of several classes each (VOC2007);
    ranks: whether it also gives the top-5 accuracy, where there are more than five classes.
    """

    name: str
    revision: int
    summary: str
    config: type
    run: Run
    takes: str = "features"
    metrics: tuple[str, ...] = CLASSIFICATION
    several: bool = False
    ranks: bool = False

    @property
    def options(self) -> dict[str, Option]:
        """The schema of `config`."""
        return options_of(self.config)

    @property
    def classifies(self) -> bool:
        """Whether it predicts the label of each test image."""
        return self.metrics == CLASSIFICATION

    def returns(self, metric: str = "top1") -> tuple[str, ...]:
        """The metrics on a data set whose own is `metric` (top1, mean_per_class or map11)."""
        if not self.classifies:
            return self.metrics
        if metric == MAP11:
            return (MAP11,)
        return (*self.metrics, MEAN_PER_CLASS) if metric == MEAN_PER_CLASS else self.metrics

    def may_return(self, metric: str = "top1") -> tuple[str, ...]:
        """`returns`, and what it gives only where there are classes enough."""
        found = self.returns(metric)
        return (*found, TOP5) if self.ranks and metric != MAP11 else found

    def keyed(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What a stage's key covers: an option of `config.ADDED`, which came after there were
        keys, only where it is not at its default."""
        added = getattr(self.config, "ADDED", ())
        return {name: value for name, value in options.items()
                if name not in added or value != self.options[name].default}

    def configure(self, options: Mapping[str, Any]) -> Any:
        """An instance of `config`. Raises ValueError with what is wrong with the options."""
        return build(self.config, options, f"evaluation '{self.name}'")


def register(name: str, *, config: type, revision: int, takes: str = "features",
             metrics: tuple[str, ...] = CLASSIFICATION,
             several: bool = False, ranks: bool = False) -> Callable[[Run], Run]:
    """Register `run(data, config, class_counts) -> metrics` as an evaluation.

    `metrics` names the numbers that records keep; `measures.declare` says what they are where they
    are not shares in [0, 1] of which more is better.
    """

    def add(run: Run) -> Run:
        assert name not in _FOUND, f"two evaluations are called '{name}'"
        assert takes in TAKES, f"an evaluation takes {' or '.join(TAKES)}, not '{takes}'"
        assert "@" not in name, "the part of an id after @ is the target"
        summary = (run.__doc__ or "").split("\n")[0]
        _FOUND[name] = Evaluation(name, revision, summary, config, run, takes, metrics, several,
                                  ranks)
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
