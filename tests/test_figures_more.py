"""The figures that only some studies have: by compute, by class, of clusters, of papers' curves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import store_fixtures
import synthetic
import test_figures
import test_paper_layout

from harness import figures
from harness.figures_clusters import METRICS
from harness.figures_papers import axis_of, number_of, paper_curves
from harness.measured import Measured, read
from harness.papers import tables
from harness.records import collect
from harness.tables import build_tables


def clustered(tmp_path: Path) -> Measured:
    """Clusters beside linear, and methods that differ in images and in seconds."""
    plan = synthetic.study(evaluations=("linear", "clusters"))
    frame = synthetic.records(plan)
    order = frame["method"].map({name: i for i, name in enumerate(synthetic.TRUTH)})
    frame["images_seen"] = np.where(frame["method"].isin(["random_init", "raw_pixels"]), 0,
                                    200_000 * (1 + order % 3))
    frame["device_seconds"] = 30.0 * (1 + order) + frame["seed"]
    other = frame[(frame["evaluation"] == "clusters") & (frame["metric"] == "top1")]
    rows = [frame[frame["evaluation"] == "linear"],
            *(other.assign(metric=name) for name in METRICS)]
    plan["protocols"] = {"linear": {"metrics": ["top1", "balanced"]},
                         "clusters": {"metrics": list(METRICS)}}
    return read(synthetic.write(tmp_path, plan, pd.concat(rows)))


def from_store(tmp_path: Path) -> Measured:
    folder = store_fixtures.study(tmp_path, seeds=(0, 1, 2))
    collect(folder)
    return read(folder)


def of_table(tmp_path: Path) -> Measured:
    data = test_paper_layout.plan()
    return read(synthetic.write(tmp_path, data, test_paper_layout.records(data)))


CASES = {"clusters": (clustered, {"compute-linear-balanced", "clusters-clusters",
                                  "gap-linear-balanced"}),
         "classes": (from_store, {"classes-linear-balanced", "gap-linear-balanced"}),
         "table": (of_table, {"paper-dnc-table3-imagenet_top1"})}


def drawn(study: Measured) -> Iterator[tuple[str, Any]]:
    tables = [] if study.study.papers else build_tables(study)
    with figures.style():
        for name, figure in figures._figures(study, tables):
            figure.canvas.draw()
            yield name, figure


@pytest.mark.parametrize("case", list(CASES))
def test_which_figures_there_are_follows_from_the_records(tmp_path: Path, case: str) -> None:
    make, names = CASES[case]
    found = dict(drawn(make(tmp_path)))
    assert set(found) == names
    for name, figure in found.items():
        renderer = figure.canvas.get_renderer()
        boxes = [(text.get_text(), text.get_window_extent(renderer))
                 for text in test_figures.drawn_texts(figure)]
        assert len(boxes) > 8
        assert "n = 3" in " ".join(text for text, _ in boxes).replace("\n", " ")
        for i, (text, box) in enumerate(boxes):
            inside = figure.bbox.padded(1)
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1, f"{name}: {text} is clipped"
            for other, second in boxes[:i]:
                assert not box.padded(-1.5).overlaps(second.padded(-1.5)), f"{text} on {other}"


def test_bytes_are_the_same_every_time(tmp_path: Path) -> None:
    study = of_table(tmp_path)
    assert figures.draw_all(study, []) == figures.draw_all(study, []) != {}


def test_nothing_is_drawn_of_a_table_without_a_number_of_ours(tmp_path: Path) -> None:
    data = test_paper_layout.plan()
    for paper in data["papers"].values():
        for cell in paper["cells"]:
            cell["reason"] = "not asked"
            cell.pop("method", None)
    study = read(synthetic.write(tmp_path, data, test_paper_layout.records(data)))
    assert list(paper_curves(study)) == []


def test_axes_of_papers_curves() -> None:
    known = tables()
    assert axis_of(known["fnc/figure_threshold"]) == "threshold"
    assert axis_of(known["fnc/figure_crop_lower_bound"]) == "crop_min"
    assert axis_of(known["dnc/table18"]) == "distill_epochs"
    assert axis_of(known["dnc/table3"]) == "epochs"
    assert axis_of(known["dnc/table8"]) is None
    assert [number_of(text) for text in ("~500", 0.45, "1,000", "MLP")] == [500, 0.45, 1000, None]
