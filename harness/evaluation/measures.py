"""What the numbers of a record are: their range, their unit and which end is better. No torch."""

from __future__ import annotations

from dataclasses import dataclass

_MEASURES: dict[str, Measure] = {}


@dataclass(frozen=True)
class Measure:
    """A metric by the name that records have for it.

    unit: "share" is printed in percent, anything else as it is ("bits", "" for a plain number);
    low, high: the values that are possible; better: "higher", "lower" or "" where neither is.
    """

    name: str
    label: str = ""
    unit: str = "share"
    low: float = 0.0
    high: float = 1.0
    better: str = "higher"

    @property
    def text(self) -> str:
        """Its name for people."""
        return self.label or self.name.replace("_", " ")

    @property
    def scale(self) -> float:
        """What a value is multiplied by to be printed."""
        return 100.0 if self.unit == "share" else 1.0

    @property
    def digits(self) -> int:
        """Digits after the point of a printed value."""
        return 1 if self.unit == "share" else 2

    @property
    def noun(self) -> str:
        """What a difference of two values is counted in."""
        return "points" if self.unit == "share" else self.unit or "units of the metric"

    @property
    def printed(self) -> str:
        """What a value is printed in."""
        return "percent" if self.unit == "share" else self.unit or "units of the metric"

    def refuses(self, value: float) -> bool:
        """Whether a value is impossible (NaN always is)."""
        return not self.low <= value <= self.high


def declare(*measures: Measure) -> tuple[str, ...]:
    """Make measures known to records, tables and figures; returns their names.

    Raises ValueError if one has another meaning already.
    """
    for found in measures:
        if _MEASURES.setdefault(found.name, found) != found:
            raise ValueError(f"metric '{found.name}' is declared twice with different meanings")
    return tuple(found.name for found in measures)


def measure(name: str) -> Measure:
    """The measure of that name; one that nobody declared is a share in [0, 1]."""
    return _MEASURES.get(name, Measure(name))


def known() -> tuple[str, ...]:
    """Every declared name, in the order in which tables show them."""
    return tuple(_MEASURES)


CLASSIFICATION = declare(
    Measure("top1", "top-1 accuracy"), Measure("balanced", "balanced accuracy"))
# Of evaluations that score every class, where there are more than five (harness.evaluation.scores).
(TOP5,) = declare(Measure("top5", "top-5 accuracy"))
# The long-tail view of an evaluation; see harness.evaluation.shots. A standard deviation of numbers
# in [0, 1] is at most a half.
GROUPS = declare(
    Measure("many", "accuracy on frequent classes"),
    Measure("medium", "accuracy on medium classes"),
    Measure("few", "accuracy on rare classes"),
    Measure("balancedness", "balancedness (std of the groups; lower is better)",
            high=0.5, better="lower"),
    Measure("class_balancedness", "balancedness (std of the classes; lower is better)",
            high=0.5, better="lower"))
MEAN_PER_CLASS, MAP11 = declare(
    Measure("mean_per_class", "mean accuracy of the classes"),
    Measure("map11", "11-point mean average precision"))
