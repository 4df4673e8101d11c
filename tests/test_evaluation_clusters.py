"""Divisions, their agreement with classes, and shot groups, against recorded values."""

from __future__ import annotations

from pathlib import Path

import evaluation_fixtures as fixtures
import numpy as np
import pytest

from harness.evaluation import clusters
from harness.evaluation.measures import GROUPS
from harness.evaluation.shots import balancedness, long_tail_view, shot_accuracies, shot_groups


def test_lloyd_steps_are_the_recorded_ones() -> None:
    golden = np.load(fixtures.GOLDEN / "formula_spherical_kmeans.npz")
    unit = golden["X"] / np.linalg.norm(golden["X"], axis=1, keepdims=True)
    start = golden["C0"] / np.linalg.norm(golden["C0"], axis=1, keepdims=True)
    one = clusters.lloyd(unit, start, 1)
    np.testing.assert_allclose(one.centroids, golden["C1_unit"], rtol=1e-5, atol=1e-6)
    final = clusters.lloyd(unit, start, 100)
    assert (final.assignment == golden["assign_final"]).all()
    np.testing.assert_allclose(final.centroids, golden["C_final"], rtol=1e-5, atol=1e-6)
    assert final.objective == pytest.approx(float(golden["objective_final"]), rel=1e-6)


def _blobs(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, 16))
    return (np.repeat(centres, 30, 0) + 0.1 * rng.normal(size=(120, 16))).astype(np.float32)


def test_separate_groups_are_found_whatever_the_seed() -> None:
    for seed in range(3):
        found = clusters.spherical_kmeans(_blobs(), 4, seed)
        assert sorted(np.bincount(found.assignment)) == [30, 30, 30, 30]
        assert found.centroids.shape == (4, 16) and found.assignment.dtype == np.int64
        again = clusters.spherical_kmeans(_blobs() * 7, 4, seed)
        assert (found.assignment == again.assignment).all(), "scale does not matter"


def test_an_empty_group_takes_the_worst_placed_image() -> None:
    unit = _blobs() / np.linalg.norm(_blobs(), axis=1, keepdims=True)
    start = np.stack([unit[0], unit[40], unit[80], -unit.mean(0)])
    assert sorted(np.bincount(clusters.lloyd(unit, start, 100).assignment, minlength=4))[0] > 0


def test_what_cannot_be_divided_is_named() -> None:
    with pytest.raises(ValueError, match="3 images into k=4"):
        clusters.spherical_kmeans(np.eye(3), 4, 0)
    with pytest.raises(ValueError, match="stays empty"):
        clusters.spherical_kmeans(np.ones((10, 3)), 3, 0)
    with pytest.raises(ValueError, match="not finite"):
        clusters.spherical_kmeans(np.full((4, 2), np.nan), 2, 0)
    with pytest.raises(ValueError, match="dealing 3 images"):
        clusters.deal(3, 4, 0)


def test_dealing_is_even_seeded_and_random() -> None:
    found = clusters.deal(103, 5, seed=0)
    assert sorted(np.bincount(found.assignment)) == [20, 20, 21, 21, 21]
    assert (found.assignment == clusters.deal(103, 5, seed=0).assignment).all()
    assert (found.assignment != clusters.deal(103, 5, seed=1).assignment).any()
    assert found.centroids.shape == (5, 0)


def test_agreement_with_classes_is_the_recorded_one() -> None:
    golden = np.load(fixtures.GOLDEN / "formula_cluster_metrics.npz")
    found = clusters.agreement(golden["labels"], golden["clusters"])
    assert found == {
        "majority_top1": pytest.approx(float(golden["top1_majority"])),
        "mutual_information_bits": pytest.approx(float(golden["mi_bits"])),
        "class_in_main_cluster": pytest.approx(
            float(golden["mean_class_fraction_in_its_main_cluster"]))}


@pytest.mark.parametrize(("rule", "key"), [
    ("oltr", "oltr"), ("sdclr_imagenet", "sdclr_imagenet"), ("thirds", "sdclr_cifar_thirds")])
def test_shot_groups_are_the_recorded_ones(rule: str, key: str) -> None:
    golden = np.load(fixtures.GOLDEN / "formula_shot_groups.npz")
    found = shot_accuracies(golden["per_class_acc"].tolist(), golden["train_counts"].tolist(), rule)
    assert list(found) == ["many", "medium", "few"]
    np.testing.assert_allclose(list(found.values()), golden[key])
    if rule != "oltr":
        name = {"thirds": "thirds", "sdclr_imagenet": "sdclr_imagenet"}[rule]
        assert balancedness(list(found.values())) == pytest.approx(
            float(golden[f"std_over_three_groups_{name}"]))
    assert balancedness(golden["per_class_acc"].tolist()) == pytest.approx(
        float(golden["std_over_classes"]))


def test_groups_without_classes_are_left_out_and_bad_rules_named() -> None:
    assert shot_accuracies([0.5, 0.7], [200, 300], "oltr") == {"many": pytest.approx(0.6)}
    assert shot_groups([5, 5, 5, 5]).tolist() == [0, 0, 1, 2]
    with pytest.raises(ValueError, match="'halves'.*thirds"):
        shot_groups([1], "halves")
    with pytest.raises(ValueError, match="one per class"):
        shot_accuracies([0.5], [1, 2])


@pytest.mark.parametrize(("rule", "groups"), [
    ("thirds", {"many": 0.85, "medium": 0.6, "few": 0.2}),
    ("oltr", {"many": 0.85, "medium": 0.6, "few": 0.2}),
    ("sdclr_imagenet", {"many": 0.9, "medium": 0.7, "few": 0.2})])
def test_the_long_tail_view_of_a_result_is_by_the_rule_that_is_asked(
        rule: str, groups: dict[str, float]) -> None:
    found = long_tail_view([0.9, 0.8, 0.6, 0.2], [500, 100, 50, 10], rule)
    spread = {"balancedness": np.std(list(groups.values())),
              "class_balancedness": np.std([0.9, 0.8, 0.6, 0.2])}
    assert found == pytest.approx({**groups, **spread}) and list(found) == list(GROUPS)
    alone = long_tail_view([0.9, 0.8], [500, 300], "oltr")
    assert list(alone) == ["many", "class_balancedness"], "one group is not spread"


@pytest.mark.parametrize("k", [4, 70])
def test_blocks_of_mapped_rows_give_the_groups_of_the_whole(
        k: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(900, 16)).astype(np.float32) + 3 * np.eye(16)[
        np.arange(900) % 16].astype(np.float32)
    whole = clusters.spherical_kmeans(x, k, 0)
    np.save(tmp_path / "x.npy", 5 * x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for name, value in (("SMALL", 0), ("RESIDENT", 0)):
        monkeypatch.setattr(clusters, name, value)
        found = clusters.spherical_kmeans(mapped, k, 0)
        assert (found.assignment == whole.assignment).mean() > 0.99
        assert found.objective == pytest.approx(whole.objective, rel=1e-4)
        again = clusters.spherical_kmeans(mapped, k, 0)
        assert again.centroids.tobytes() == found.centroids.tobytes()
        assert again.objective == found.objective


def test_an_empty_group_takes_the_worst_placed_image_in_blocks_too(
        monkeypatch: pytest.MonkeyPatch) -> None:
    unit = _blobs() / np.linalg.norm(_blobs(), axis=1, keepdims=True)
    start = np.stack([unit[0], unit[40], unit[80], -unit.mean(0)])
    whole = clusters.lloyd(unit, start, 100)
    monkeypatch.setattr(clusters, "SMALL", 0)
    blocks = clusters.lloyd(unit, start, 100)
    assert (blocks.assignment == whole.assignment).all()
    np.testing.assert_allclose(blocks.centroids, whole.centroids, atol=1e-6)


def test_the_starts_of_very_many_images_are_drawn_from_a_part(
        monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(20_000, 8)).astype(np.float32)
    monkeypatch.setattr(clusters, "RESIDENT", 0)
    found, again = (clusters.spherical_kmeans(x, 3, 0, 1, 20) for _ in range(2))
    assert found.centroids.tobytes() == again.centroids.tobytes()
    monkeypatch.setattr(clusters, "RESIDENT", 10**9)
    whole = clusters.spherical_kmeans(x, 3, 0, 1, 20)
    assert found.objective == pytest.approx(whole.objective, rel=0.02)
