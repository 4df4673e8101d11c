"""Weighted kNN against the official code's votes and against scikit-learn's neighbours."""

from __future__ import annotations

from dataclasses import replace

import evaluation_fixtures as fixtures
import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from harness.evaluation import evaluation, knn, neighbours
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


def _gallery(kind: str, n: int = 3000, d: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """A gallery and 60 queries: "spread", "tight" (cosines within 1e-3) or "copies" of 30 rows."""
    generator = torch.Generator().manual_seed(3)
    x, q = torch.randn(n, d, generator=generator), torch.randn(60, d, generator=generator)
    if kind == "tight":
        return 1 + 0.02 * x, 1 + 0.02 * q
    return (x[torch.arange(n) % 30] if kind == "copies" else x), q


def _by_hand(gallery: torch.Tensor, queries: torch.Tensor, k: int) -> torch.Tensor:
    """Indices by float64 similarities, of equals the lower one first."""
    x, q = (neighbours.unit_rows(f).double() for f in (gallery, queries))
    return (q @ x.T).float().sort(dim=1, descending=True, stable=True).indices[:, :k]


@pytest.mark.parametrize("backend", ["torch", "faiss"])
@pytest.mark.parametrize("kind", ["spread", "tight", "copies"])
def test_neighbours_are_exact_and_of_equals_the_first(
        kind: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, queries = _gallery(kind)
    for coarse in (True, False):
        monkeypatch.setattr(neighbours, "_bfloat16_is_faster", lambda coarse=coarse: coarse)
        similarity, index = neighbours.nearest(gallery, queries, 20, backend)
        same = (index == _by_hand(gallery, queries, 20)).double().mean()
        # float32 and float64 may order what is equal to the last digit differently
        assert same > (0.9 if kind == "tight" else 0.99)
        x, q = neighbours.unit_rows(gallery).double(), neighbours.unit_rows(queries).double()
        best = (q @ x.T).topk(20).values
        torch.testing.assert_close(similarity.double(), best, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["spread", "tight", "copies"])
def test_neighbours_are_the_same_bits_whatever_the_blocks_threads_and_search(
        kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, queries = _gallery(kind, n=900)
    queries = queries[:20]
    monkeypatch.setattr(neighbours, "_bfloat16_is_faster", lambda: True)
    whole = neighbours.nearest(gallery, queries, 20)
    sizes = [{"GALLERY": 400 * 40, "COLUMNS": 64}, {"GALLERY": 57 * 40, "QUERIES": 13},
             {"QUERIES": 7, "COLUMNS": 100, "GROUP": 4}]
    threads = torch.get_num_threads()
    for number, size in enumerate(sizes):
        for name, value in size.items():
            monkeypatch.setattr(neighbours, name, value)
        monkeypatch.setattr(neighbours, "_bfloat16_is_faster", lambda n=number: n % 2 == 0)
        torch.set_num_threads(1 + number % 2)
        found = neighbours.nearest(gallery, queries, 20, ("torch", "faiss")[number == 2])
        torch.set_num_threads(threads)
        assert torch.equal(found[0], whole[0]) and torch.equal(found[1], whole[1]), size


def test_no_similarity_is_above_its_bound() -> None:
    for kind in ("spread", "tight"):
        gallery, queries = _gallery(kind)
        for dtype in (torch.bfloat16, torch.float32):
            (block,) = neighbours._blocks(gallery, dtype)
            q = neighbours.unit_rows(queries)
            found = neighbours._candidates(q, block, 40, "torch")
            every = q.double() @ block.unit.double().T
            assert (every.gather(1, found.columns) <= found.upper).all()
            others = every.scatter(1, found.columns, -2.0).amax(1)
            assert (others <= found.others).all() and found.columns.shape == (60, 40)


def test_balanced_forms_of_a_long_tailed_gallery() -> None:
    features, labels = fixtures.gaussian(400, 12, 4, seed=0, noise=2.0)
    kept = (labels == 0) | (torch.arange(400) < 60)
    data = fixtures.problem(num_classes=4, noise=2.0)
    data = replace(data, train=TrainSplit(features[kept], labels[kept]))
    found = {}
    for prior in ("as_is", "divided", "equal_images"):
        data = replace(data, test=fixtures.problem(num_classes=4, noise=2.0).test)
        found[prior] = knn.knn_balanced(data, knn.BalancedConfig(prior=prior), None)
    assert found["as_is"]["balanced"] < found["divided"]["balanced"]
    assert found["as_is"]["balanced"] < found["equal_images"]["balanced"]
    assert found["as_is"]["per_class"][0] > found["divided"]["per_class"][0]
    assert found["equal_images"]["selected"] == {"n_train": 4 * 15}
    equal = knn.equal_images(data.train, 4, seed=0)
    assert torch.bincount(equal.labels).tolist() == [15] * 4


def test_equal_votes_are_scikit_learns() -> None:
    data = fixtures.problem()
    predicted = knn.predict(data.train, data.test.features, 10, None, 5)
    x, q = (neighbours.unit_rows(f).numpy() for f in (data.train.features, data.test.features))
    reference = KNeighborsClassifier(10, algorithm="brute").fit(x, data.train.labels.numpy())
    assert (predicted.numpy() == reference.predict(q)).all()


def test_new_options_leave_old_keys() -> None:
    known = evaluation("knn")
    old = {"k": 20, "sigma": 0.1, "select_k": False}
    assert known.keyed({**old, "backend": "torch"}) == old
    assert known.keyed({**old, "backend": "faiss"}) == {**old, "backend": "faiss"}


def test_images_of_several_classes_are_refused() -> None:
    data = fixtures.problem()
    data = replace(data, train=TrainSplit(data.train.features, torch.ones(200, 5).long()))
    with pytest.raises(ValueError, match="one class an image.*use linear"):
        knn.knn(data, knn.Config(), None)


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
