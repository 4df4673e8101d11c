"""Ranks, interquartile means and their figure: published values, missing cells, a readable page."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from test_figures import drawn_texts

from harness import figures
from harness.errors import UserError
from harness.figures_ranks import draw_ranks, ranks
from harness.measured import Measured, read
from harness.rankings import (
    COVERAGE,
    as_csv,
    average_ranks,
    bootstrap,
    friedman,
    groups,
    iqm,
    markdown,
    nemenyi,
    probability_of_improvement,
    ranking,
    sentence,
)
from harness.tables import build_tables

COMPARED = ("moclr", "dnc", "simclr", "byol", "fnc", "cld")


def measured(folder: Path, methods: tuple[str, ...] = COMPARED, gone: bool = False,
             **more: Any) -> Measured:
    plan = synthetic.study(methods=methods, **more)
    frame = synthetic.records(plan)
    if gone:
        frame = synthetic.fail(plan, frame, "byol", "uncurated", [1])
        frame = synthetic.fail(plan, frame, "cld", "curated", plan["seeds"])
        frame = synthetic.fail(plan, frame, "cld", "uncurated", plan["seeds"])
    return read(synthetic.write(folder, plan, frame))


# What rliable 1.2.0 gives (metrics.aggregate_iqm and probability_of_improvement), runs by tasks.
X = np.array([[.64, .27, .04], [.02, .81, .91], [.61, .73, .54], [.94, .82, 0.0], [.86, .03, .73]])
Y = np.array([[.02, .81, .91], [.24, .34, .02], [.1, .54, .52], [.49, .31, .8], [.78, .55, .52]])


def test_interquartile_mean_and_improvement_are_rliables() -> None:
    assert float(iqm(X)) == pytest.approx(0.5766666666666667)
    assert float(iqm(Y)) == pytest.approx(0.4766666666666667)
    assert probability_of_improvement(X, Y) == pytest.approx(0.58)
    assert probability_of_improvement(Y, X) == pytest.approx(0.42)
    assert probability_of_improvement(X, X) == pytest.approx(0.5)


def test_critical_differences_are_demsars() -> None:
    # table 5 a of the paper, q for 2 to 10 classifiers, and its example of 4 on 14 data sets
    published = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)
    for k, q in enumerate(published, 2):
        assert nemenyi(k, 1) == pytest.approx(q * math.sqrt(k * (k + 1) / 6), abs=0.003)
    assert nemenyi(4, 14) == pytest.approx(1.25, abs=0.005)


def test_friedman_by_hand() -> None:
    values = np.array([[3.0, 3, 3, 3], [2, 2, 2, 1], [1, 1, 1, 2]])
    assert average_ranks(values).tolist() == [1.0, 2.25, 2.75]
    k, n, mean = 3, 4, np.array([1.0, 2.25, 2.75])
    by_hand = 12 * n / (k * (k + 1)) * ((mean ** 2).sum() - k * (k + 1) ** 2 / 4)
    assert friedman(values)[0] == pytest.approx(by_hand)
    assert average_ranks(np.array([[1.0], [1.0], [0.0]])).tolist() == [1.5, 1.5, 3.0]
    assert math.isnan(friedman(np.ones((3, 4)))[1])


def test_groups_are_the_longest_spans() -> None:
    assert groups([1.0, 1.5, 3.0, 3.2], 1.0) == ((0, 1), (2, 3))
    assert groups([1.0, 1.5, 2.2, 3.0], 1.0) == ((0, 1), (1, 2), (2, 3))
    assert groups([1.0, 1.2, 1.4], 1.0) == ((0, 2),) and groups([1.0, 3.0, 5.0], 1.0) == ()


def test_methods_that_are_equal_are_told_apart_at_the_level() -> None:
    rng, found = np.random.default_rng(0), 0
    critical = nemenyi(5, 10)
    for _ in range(1_000):
        mean = average_ranks(rng.normal(size=(5, 10)))
        found += bool(mean.max() - mean.min() > critical)
    assert 0.02 < found / 1_000 < 0.065  # of all pairs together; Nemenyi's is a little conservative


@pytest.mark.parametrize(("n", "low", "high"), [(3, 0.80, 0.90), (5, 0.86, 0.94), (10, 0.90, 0.96)])
def test_the_bootstrap_of_few_seeds_covers_less_than_it_says(n: int, low: float,
                                                             high: float) -> None:
    rng = np.random.default_rng(n)
    values = rng.normal([0.7, 0.6], 0.01, size=(400, n, 2))
    ends = np.array([bootstrap(x, iqm, repeats=300, random=i) for i, x in enumerate(values)])
    covered = float(np.mean((ends[:, 0] <= 0.65) & (0.65 <= ends[:, 1])))
    assert low < covered < high, covered


def test_whoever_reads_an_interquartile_mean_reads_how_little_its_interval_covers(
        tmp_path: Path) -> None:
    study = measured(tmp_path, COMPARED)
    found = ranking(study)
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert len(rows) == len(COMPARED) and all(row["iqm"] for row in rows)
    assert {row["interval_note"] for row in rows} == {COVERAGE}
    assert "covers less than its level at small n" in markdown(found) and "85 % at n=3" in COVERAGE
    cells = [cell for table in build_tables(study) for cell in table.cells.values()]
    assert len(cells) > 20 and {cell.estimate.kind for cell in cells} <= {"t", "paired t"}


# -- records --------------------------------------------------------------------------------------


def test_ranks_are_the_planted_order(tmp_path: Path) -> None:
    found = ranking(measured(tmp_path, (*COMPARED, *synthetic.REFERENCES)))
    frame = measured(tmp_path, COMPARED).records
    best = frame[(frame["metric"] == "balanced") & (frame["evaluation"] == "linear")]
    first = best.groupby("method")["value"].mean().idxmax()
    assert found.rows[0].method.id == first and len(found.rows) == len(COMPARED)
    assert [row.rank for row in found.rows] == sorted(row.rank for row in found.rows)
    assert len(found.blocks) == 6 and not found.left_out and found.p < 0.05
    assert found.rows[0].iqm.n == 3 and found.rows[0].iqm.kind == "stratified bootstrap"
    assert found.improvement[0, -1] == 1.0 and np.isnan(found.improvement[0, 0])


def test_nothing_is_averaged_over_missing_cells(tmp_path: Path) -> None:
    found = ranking(measured(tmp_path, gone=True))
    assert found.left_out == ("cld: nothing measured", "uncurated, seed 1: without BYOL")
    assert "uncurated, seed 1" not in found.blocks and len(found.blocks) == 5
    assert {row.iqm.n for row in found.rows} == {2}  # the seeds that have every cell
    assert "Left out: cld: nothing measured; uncurated, seed 1: without BYOL." in sentence(found)


def test_lower_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    study = measured(tmp_path)
    up = [row.method.id for row in ranking(study).rows]
    frame = study.records.copy()
    frame["metric"] = frame["metric"].replace({"balanced": "rms_error"})
    from harness.evaluation import measures

    before = dict(measures._MEASURES)
    measures.declare(measures.Measure("rms_error", unit="", better="lower"))
    try:
        flipped = Measured(study.study, frame, ())
        found = ranking(flipped, "linear", "rms_error")
        assert [row.method.id for row in found.rows] == up[::-1]
        assert found.improvement[0, -1] == 1.0
    finally:
        measures._MEASURES.clear()
        measures._MEASURES.update(before)


@pytest.mark.parametrize(("methods", "seeds", "conditions"), [
    (("moclr", "dnc"), (0, 1), synthetic.GAP), (COMPARED, (0,), synthetic.GAP[:1])])
def test_too_little_gives_no_ranks(tmp_path: Path, methods: tuple[str, ...], seeds: tuple[int, ...],
                                   conditions: Any) -> None:
    study = measured(tmp_path, methods, seeds=seeds, conditions=conditions)
    with pytest.raises(UserError, match="ranks need 3 methods and 2 blocks"):
        ranking(study)
    with pytest.raises(UserError, match="gives no ranks"):
        ranking(study, "linear", "absent")
    assert draw_ranks(study) == {}


def test_tables_of_ranks(tmp_path: Path) -> None:
    found = ranking(measured(tmp_path))
    lines = as_csv(found).splitlines()
    assert len(lines) == 1 + len(COMPARED) and lines[0].startswith("method,label,rank,blocks")
    text = markdown(found)
    assert text.count("(n=3)") == len(COMPARED) and "Nemenyi" in text and "Friedman" in text


# -- figure ---------------------------------------------------------------------------------------


def test_the_figure_is_the_same_in_three_formats_every_time(tmp_path: Path) -> None:
    study = measured(tmp_path, evaluations=("linear",))
    files = draw_ranks(study)
    assert sorted(files) == [
        *(f"figures/ranks-linear-balanced.{suffix}" for suffix in ("pdf", "png", "svg")),
        "tables/ranks-linear-balanced.csv", "tables/ranks-linear-balanced.md"]
    assert files == draw_ranks(study)


@pytest.mark.parametrize("methods", [
    COMPARED[:3], COMPARED, (*COMPARED, *(f"method_of_a_rather_long_name_{i}" for i in range(12))),
    (*COMPARED, *(f"another_{i}" for i in range(24)))], ids=["3", "6", "18", "30"])
@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 2, 3, 4, 5, 6, 7)], ids=["n2", "n8"])
def test_text_is_inside_and_does_not_overlap(tmp_path: Path, methods: tuple[str, ...],
                                             seeds: tuple[int, ...]) -> None:
    study = measured(tmp_path, methods, seeds=seeds)
    with figures.style():
        figure = ranks(study.study, ranking(study))
        figure.canvas.draw()
        boxes = [(text.get_text(), text.get_window_extent()) for text in drawn_texts(figure)]
    assert len(boxes) > len(methods) + 3
    for i, (name, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, f"{name} is clipped"
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, f"{name} is clipped"
        for other, second in boxes[:i]:
            assert not box.padded(-1.5).overlaps(second.padded(-1.5)), f"{name} lies on {other}"
