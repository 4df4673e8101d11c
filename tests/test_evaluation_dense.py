"""Every dense task from files to metrics: it learns what the untrained head does not know."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

import dense_fixtures as fixtures
import numpy as np
import pytest
from support import door

from datasets.dense import Reader, open_reader
from harness.evaluation.dense import configs, depth, detection, loop, segmentation
from harness.training.loop import Interrupted

SMALL = {"batch_size": 4, "warmup": 5, "precise_bn": 4}
BOXES = {**SMALL, "train_sides": (64,), "test_side": 64, "regions": 16, "proposals": 32}
Made = tuple[ModuleType, Reader, Any]


def segmented(root: Path, **options: Any) -> Made:
    """The FCN on a tiny VOC2012."""
    reader = open_reader("voc_segmentation", fixtures.write_voc(root), {"train_set": "train"})
    return segmentation, reader, configs.SegmentationMoco(**{
        **SMALL, "iterations": 25, "lr": 0.02, "crop": 64, **options})


def deep(root: Path, **options: Any) -> Made:
    """Up-projections on a tiny NYU."""
    return depth, open_reader("nyu_v2", fixtures.write_nyu(root)), configs.DepthByol(**{
        **SMALL, "iterations": 25, "lr": 0.05, "height": 48, "width": 60, "half": False,
        "filters": (32, 16, 16), "hue": 0.0, "grey": 0.0, **options})


def voc(root: Path, **options: Any) -> Made:
    """Faster R-CNN C4 on a tiny VOC."""
    return detection, open_reader("voc_detection", fixtures.write_voc(root)), configs.Detection(**{
        **BOXES, "iterations": 100, "lr": 0.1, **options})


def coco(root: Path, **options: Any) -> Made:
    """Mask R-CNN on a tiny COCO."""
    return detection, open_reader("coco", fixtures.write_coco(root)), configs.Coco(**{
        **BOXES, "iterations": 60, "lr": 0.05, **options})


def run(made: Made, folder: Path, *, seed: int = 0, network: dict[str, Any] | None = None,
        **changes: Any) -> tuple[dict[str, Any], np.ndarray]:
    """The metrics and the losses of a task on the tiny backbone."""
    module, reader, config = made
    found: tuple[dict[str, Any], np.ndarray] = module.run(
        fixtures.backbone(**(network or {})), reader, config, fixtures.context(folder, **changes),
        seed=seed, identity="stage")
    return found


def untrained(made: Made) -> Made:
    """The same task, its head as it is drawn."""
    return made[0], made[1], dataclasses.replace(made[2], iterations=0)


def learns(made: Made, folder: Path, metric: str, reached: float, **network: Any) -> dict[str, Any]:
    """Assert that the loss halves and the metric is reached, not by the untrained head."""
    before, none = run(untrained(made), folder / "untrained", network=network)
    after, losses = run(made, folder / "trained", network=network)
    assert len(none) == 0 and before["final_loss"] is None and before["n_test"] == after["n_test"]
    assert losses[-5:].mean() < losses[:3].mean() / 2
    assert before[metric] < reached / 2 and after[metric] > reached
    return after


def test_segmentation_learns(tmp_path: Path) -> None:
    found = learns(segmented(tmp_path), tmp_path, "miou", 0.5)
    assert found["per_class_iou"][3] > 0.5 and found["per_class_iou"][1] in (None, 0.0)
    assert 0.7 < found["pixel_accuracy"] <= 1


def test_depth_learns(tmp_path: Path) -> None:
    made = deep(tmp_path)
    found = learns(made, tmp_path, "d1", 0.5)
    worse, _ = run(untrained(made), tmp_path / "again")
    assert found["d1"] <= found["d2"] <= found["d3"] <= 1
    assert found["rms"] < worse["rms"] / 2 and found["rel"] < worse["rel"] / 2


def test_instances_in_coco_by_c4_are_learnt(tmp_path: Path) -> None:
    found = learns(coco(tmp_path, iterations=45, lr=0.08), tmp_path, "ap50_bb", 0.4)
    assert found["ap50_mk"] > 0.4 and found["ap_mk"] > 0.1 and found["strides"] == [2, 4, 8, 16]


@pytest.mark.slow
def test_instances_in_coco_by_a_pyramid_are_learnt(tmp_path: Path) -> None:
    made = coco(tmp_path, architecture="fpn", lr=0.02, iterations=40, regions=8)
    found = learns(made, tmp_path, "ap50_bb", 0.5, stem_stride=4, width=16)
    assert found["ap50_mk"] > 0.5


@pytest.mark.slow
def test_objects_in_voc_are_learnt(tmp_path: Path) -> None:
    found = learns(voc(tmp_path), tmp_path, "ap50_bb", 0.6)
    assert found["ap75_bb"] > 0.1 and "ap_mk" not in found


def test_a_run_that_was_stopped_ends_in_the_same_bytes(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "PROGRESS_SECONDS", 0.0)
    short = {"iterations": 4, "batch_size": 2, "precise_bn": 1}
    for number, made in enumerate((segmented(tmp_path / "seg", **short),
                                   coco(tmp_path / "coco", **short))):
        whole, losses = run(made, tmp_path / f"whole{number}")
        calls = iter(range(1000))
        events: list[Any] = []
        with pytest.raises(Interrupted, match="stopped after step 3 of"):
            run(made, tmp_path / f"cut{number}", stop=lambda calls=calls: next(calls) == 2,
                progress=events.append)
        assert events[-1]["step"] >= 2 and set(events[-1]) == {
            "step", "steps", "images_per_second", "eta_seconds", "loss"}
        resumed, again = run(made, tmp_path / f"cut{number}")
        assert resumed == whole and (again == losses).all()
        # stopped after the training: that is paid for
        with pytest.raises(Interrupted, match="while taking the statistics"):
            run(made, tmp_path / f"cut{number}", stop=lambda: True)
    made = segmented(tmp_path / "other", **short)
    first = run(made, tmp_path / "seed0")
    assert run(made, tmp_path / "again")[0] == first[0]
    assert (run(made, tmp_path / "seed1", seed=1)[1] != first[1]).all()


def test_bf16_and_frozen_statistics_run(tmp_path: Path) -> None:
    made = segmented(tmp_path / "a", iterations=3, precision="bf16", norm="frozen", freeze_at=2)
    metrics, losses = run(made, tmp_path / "a")
    assert np.isfinite(losses).all() and 0 <= metrics["miou"] <= 1
    made = coco(tmp_path / "b", iterations=2, precision="bf16", norm="frozen", freeze_at=1)
    metrics, losses = run(made, tmp_path / "b")
    assert np.isfinite(losses).all() and 0 <= metrics["ap_bb"] <= 1


def test_a_loss_that_diverges_names_the_step_and_the_remedy(tmp_path: Path) -> None:
    made = segmented(tmp_path, iterations=12, lr=1e12, warmup=0)
    with pytest.raises(FloatingPointError, match=r"at step \d+ of 12 \(lr .*batch 4: lower lr"):
        run(made, tmp_path / "out")


def test_the_central_crop_is_what_is_scored(tmp_path: Path) -> None:
    made = segmented(tmp_path, iterations=0)
    whole, _ = run(made, tmp_path / "a")
    cut, _ = run((made[0], made[1], dataclasses.replace(made[2], test_crop=32)), tmp_path / "b")
    assert whole["pixel_accuracy"] != cut["pixel_accuracy"]


def test_a_study_says_where_dense_data_are_expected() -> None:
    said = door("harness.sweep", "grid=curation_gap", "scale=smoke", "dry_run=true",
                "grid.evaluations=[linear,linear@coco,detection_voc,depth_nyu@coco]")
    assert said.returncode == 2
    assert "images of 'coco' have no classes of their own: use detection_coco" in said.stderr
    assert "write detection_voc@voc_detection, its files at targets.voc_detection.path=" in \
        said.stderr
    assert "depth_nyu is of the data set 'nyu_v2', not of 'coco'" in said.stderr


@pytest.mark.slow
def test_a_study_scores_encoders_on_pixels_and_boxes(tmp_path: Path) -> None:
    fixtures.write_coco(tmp_path / "coco", 4, 2)
    fixtures.write_voc(tmp_path / "voc", 12, 2)
    fixtures.write_nyu(tmp_path / "nyu", 4, 2)
    boxes = "iterations: 2, batch_size: 2, precise_bn: 0, train_sides: [64], test_side: 64, " \
            "regions: 8, proposals: 16"
    said = door(
        "harness.sweep", "grid=curation_gap", "scale=smoke", "grid.methods=[random_init]",
        "grid.seeds=[0]", f"results={tmp_path / 'results'}",
        "grid.evaluations=[linear,segmentation_voc@voc_segmentation,depth_nyu@nyu_v2,"
        "detection_coco@coco,detection_voc@voc_detection]",
        f"targets.voc_segmentation.path={tmp_path / 'voc'}",
        "targets.voc_segmentation.options.train_set=train",
        f"targets.coco.path={tmp_path / 'coco'}", f"targets.nyu_v2.path={tmp_path / 'nyu'}",
        f"targets.voc_detection.path={tmp_path / 'voc'}",
        "scale.evaluations.segmentation_voc={iterations: 2, batch_size: 2, crop: 64}",
        "scale.evaluations.depth_nyu={iterations: 2, batch_size: 2, height: 32, width: 32, "
        "filters: [8, 8]}", f"scale.evaluations.detection_coco={{{boxes}}}",
        f"scale.evaluations.detection_voc={{{boxes}}}")
    assert said.returncode == 0, said.stderr
    import pandas as pd
    records = pd.read_parquet(tmp_path / "results/curation_gap-smoke/records.parquet")
    metrics = set(zip(records["evaluation"], records["metric"], strict=True))
    assert {("segmentation_voc@voc_segmentation", "miou"), ("depth_nyu@nyu_v2", "rms"),
            ("detection_coco@coco", "ap_mk"), ("detection_voc@voc_detection", "ap50_bb")} <= metrics
