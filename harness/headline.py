"""Which evaluation and metric lead a study's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def headline(wanted: tuple[str, str], asked: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The grid's own (evaluation, metric) if that evaluation is asked; or else the first that is
    asked and has the metric, or else the first at its first metric.

    asked: the evaluations of the study with the metrics of each, in order.
    """
    evaluation, metric = wanted
    if evaluation in asked or not asked:
        return wanted
    able = [name for name, metrics in asked.items() if metric in metrics or not metrics]
    if able:
        return able[0], metric
    first = next(iter(asked))
    return first, asked[first][0]
