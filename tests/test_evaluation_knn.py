"""Weighted kNN against the official code's votes and against scikit-learn's neighbours."""

from __future__ import annotations

import evaluation_fixtures as fixtures
import numpy as np
import pytest
import torch

from harness.evaluation import knn
from harness.evaluation.splits import TrainSplit

OFFICIAL = ("cld/knn_K200_s0.07", "cld/knn_K200_s0.1", "npid_knn_K5")


def _golden(name: str) -> dict[str, np.ndarray]:
    """A file's arrays under CLD's names."""
    names = {"xtr": "x_train", "ytr": "y_train", "xte": "x_test", "yte": "y_test",
             "scores": "class_scores"}
    with np.load(fixtures.GOLDEN / f"{name}.npz") as archive:
        return {names.get(key, key): archive[key] for key in archive.files}


@pytest.mark.parametrize("name", OFFICIAL)
def test_votes_are_the_official_ones(name: str) -> None:
    golden = _golden(name)
    train = TrainSplit(torch.from_numpy(golden["x_train"]), torch.from_numpy(golden["y_train"]))
    scores = knn.class_scores(train, torch.from_numpy(golden["x_test"]), int(golden["K"]),
                              float(golden["sigma"]), golden["class_scores"].shape[1]).numpy()
    np.testing.assert_allclose(scores, golden["class_scores"], rtol=2e-4, atol=1e-2)
    right = scores.argmax(1) == golden["y_test"]
    assert right.mean() == pytest.approx(float(golden["top1"]))
    if "top5" in golden:
        fifth = np.sort(scores, 1)[:, -5]
        own = scores[np.arange(len(scores)), golden["y_test"]]
        assert (own >= fifth).mean() == pytest.approx(float(golden["top5"]))


def test_neighbours_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = fixtures.problem(n=300)
    whole, _ = knn.neighbours(data.train, data.test.features, 20)
    monkeypatch.setattr(knn, "GALLERY", 17)
    monkeypatch.setattr(knn, "QUERIES", 23)
    blocked, _ = knn.neighbours(data.train, data.test.features, 20)
    torch.testing.assert_close(whole, blocked, rtol=1e-6, atol=1e-6)
    x, q = (torch.nn.functional.normalize(f) for f in (data.train.features, data.test.features))
    torch.testing.assert_close(whole, (q @ x.T).sort(1, descending=True).values[:, :20])


def test_metrics_and_the_choice_of_k() -> None:
    data = fixtures.problem()
    metrics = knn.knn(data, knn.Config(select_k=True), [50, 40, 30, 20, 10])
    assert metrics["selected"]["k"] in knn.CANDIDATES
    assert metrics["n_test"] == 200 and len(metrics["per_class"]) == 5
    assert metrics["top1"] > 0.5 and metrics["top1"] == pytest.approx(metrics["balanced"])
    assert {"many", "medium", "few"} <= metrics.keys()
    assert knn.knn(fixtures.problem(), knn.Config(k=3), None)["selected"] == {}


def test_fewer_images_than_k_is_refused() -> None:
    with pytest.raises(ValueError, match="k=300 has 200 training images: choose k <= 200"):
        knn.knn(fixtures.problem(), knn.Config(k=300), None)
