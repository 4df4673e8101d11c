"""Official sets image for image; tracks, purity, powers, halves and foreign images: the properties
of each, and of all of them together."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datasets
from datasets import controls, counts, lists
from datasets.controls import Known
from datasets.controls.spurious import BLANK, OWN
from datasets.messages import TooFewImages
from datasets.types import Pool, Selection

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(os.environ.get("CURATION_GAP_SHARED", Path(__file__).parents[2] / "shared"))
LISTS = SHARED / "data" / "lists"
CLASSES, TRACKS, FRAMES = 6, 20, 10
ORIGIN = np.random.default_rng(1).permutation(np.repeat(np.arange(CLASSES * TRACKS), FRAMES))
LABELS = ORIGIN // TRACKS
COARSE = Known(coarse_names=("a", "a", "b", "b", "b", "c"), class_names=tuple("uvwxyz"))
seeds = st.integers(0, 2**31)
totals = st.integers(60, 600)
MIXED = {"share": 0.3, "source": "digits", "foreign": 400}


def pool(labels: np.ndarray = LABELS, origin: np.ndarray = ORIGIN) -> Pool:
    return Pool(labels, origin, np.zeros_like(labels), np.arange(len(labels)))


def run(steps: dict[str, Any], total: int | None, seed: int = 0) -> Selection:
    return controls.apply(pool(), steps, total, seed, COARSE)


def histogram(selection: Selection) -> np.ndarray:
    return np.bincount(LABELS[selection.index[selection.index < len(LABELS)]], minlength=CLASSES)


# -- the official sets ----------------------------------------------------------------------------


def test_ldam_draws_the_official_toy_case_image_for_image() -> None:
    with np.load(GOLDEN / "cifar_lt_ldam_sampling_toy.npz", allow_pickle=False) as golden:
        labels, chosen = golden["labels"], golden["selected"]
        official = pool(labels, labels)
        found = controls.apply(official, {"ldam": {"imbalance": 10.0}}, None, 0)
        assert len(chosen) == 118 == len(found)
        np.testing.assert_array_equal(found.index, chosen)


def test_ldam_has_the_official_class_counts_of_every_published_set() -> None:
    with np.load(GOLDEN / "cifar_lt_class_counts.npz", allow_pickle=False) as golden:
        names = [name for name in golden.files if name.startswith("cifar")]
        assert len(names) == 24
        for name in names:
            data, profile, factor = name.split("_")
            classes = int(data.removeprefix("cifar"))
            labels = np.repeat(np.arange(classes), 50_000 // classes)
            step = {"imbalance": 1 / float(factor),
                    "profile": {"exp": "exponential", "step": "step"}[profile]}
            found = controls.apply(pool(labels, labels), {"ldam": step}, None, 0)
            np.testing.assert_array_equal(np.bincount(labels[found.index]), golden[name], name)


@pytest.mark.parametrize(("classes", "prefix", "total"), [
    (10, "", 11165), (100, "cifar100_", 9754)])
def test_ldam_from_4500_makes_sdclrs_counts_and_its_seed_their_class_orders(
        classes: int, prefix: str, total: int) -> None:
    labels = np.repeat(np.arange(classes), 50_000 // classes)
    step = {"ldam": {"imbalance": 100.0, "largest": 45_000 // classes, "order": "seed"}}
    found = [np.bincount(labels[controls.apply(pool(labels, labels), step, None, seed).index])
             for seed in range(5)]
    assert all(one.sum() == total for one in found)
    assert len({tuple(np.argsort(-one)) for one in found}) == 5
    assert len({tuple(sorted(one)) for one in found}) == 1
    path = LISTS / "sdclr_cifar" / f"sdclr_cifar{classes}_splits.npz"
    if path.is_file():  # the same totals as the five official lists
        assert {len(lists.read(path, f"{prefix}split{n}_D_i")) for n in range(1, 6)} == {total}


def test_ldam_refuses_another_total_and_too_few_images() -> None:
    with pytest.raises(ValueError, match=r"ldam makes \d+ images by its own rule, not 300"):
        run({"ldam": {"imbalance": 10.0}}, 300)
    with pytest.raises(TooFewImages, match="needs 300 images of class 0, has 200"):
        run({"ldam": {"imbalance": 2.0, "largest": 300}}, None)
    with pytest.raises(ValueError, match="set it to at most 200"):
        run({"ldam": {"imbalance": 500.0}}, None)


def test_powers_of_imagenet_lts_counts_are_balfeats_sets() -> None:
    path = LISTS / "imagenet_lt" / "ImageNet_LT_train_class_freq.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set CURATION_GAP_SHARED")
    base = lists.counts(path)
    # ImageNet-LT0, 2, 4, 6, 8 of the BalFeat README and ImageNet-LT: largest and smallest class
    for alpha, ends in ((0.0, (116, 115)), (0.2, (204, 67)), (0.4, (343, 37)), (0.6, (553, 20)),
                        (0.8, (857, 10)), (1.0, (1280, 5))):
        sizes = counts.power_counts(base, alpha, 115_846)
        assert (sizes.max(), sizes.min()) == ends and sizes.sum() == 115_846
    labels = np.repeat(np.arange(1000), 350)
    imagenet = Pool(labels, np.full_like(labels, -1), np.zeros_like(labels), np.arange(len(labels)))
    found = controls.apply(imagenet, {"power": {"alpha": 0.4, "file": path.name}}, 115_846, 0,
                           Known(folder=path.parent))
    assert (np.bincount(labels[found.index]) == counts.power_counts(base, 0.4, 115_846)).all()


def test_power_needs_counts_of_the_same_classes(tmp_path: Path) -> None:
    (tmp_path / "n.json").write_text("[5, 4, 3]")
    with pytest.raises(ValueError, match="counts of 3 classes, the training set has 6"):
        controls.apply(pool(), {"power": {"alpha": 1.0, "file": "n.json"}}, 60, 0,
                       Known(folder=tmp_path))
    (tmp_path / "n.json").write_text('["a"]')
    with pytest.raises(ValueError, match="JSON list of whole numbers"):
        lists.counts(tmp_path / "n.json")


def test_tracks_of_gtsrb_whole_or_one_frame_each() -> None:
    path = SHARED / "data" / "gtsrb32" / "gtsrb32_subset_meta.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set CURATION_GAP_SHARED")
    with np.load(path, allow_pickle=False) as meta:
        labels = meta["y_train"].astype(np.int64)
        origin = labels * 1000 + meta["track_train"]  # numbered in each class
    assert len(np.unique(origin)) == 170
    used = {}
    for frames in (1, 5, 30):
        found = controls.apply(pool(labels, origin), {"tracks": {"frames": frames}}, 43 * 30, 0)
        assert (np.bincount(labels[found.index]) == 30).all()
        used[frames] = len(np.unique(origin[found.index]))
    assert used == {1: 170, 5: len(np.unique(origin)) - _beyond(labels, origin, 6), 30: 43}


def _beyond(labels: np.ndarray, origin: np.ndarray, most: int) -> int:
    """How many tracks classes have above `most`."""
    return sum(max(0, len(np.unique(origin[labels == c])) - most) for c in range(43))


def test_the_half_image_set_of_liu_et_al_has_its_counts() -> None:
    labels = np.repeat(np.arange(10), 5000)
    steps = {"long_tail": {"imbalance": 500.0, "profile": "step"}, "spurious": {}}
    found = controls.apply(pool(labels, labels), steps, 25_050, 0)
    assert np.bincount(labels[found.index]).tolist() == [5000] * 5 + [10] * 5
    assert found.partner is not None
    assert ((found.partner == BLANK) == (labels[found.index] >= 5)).all()
    assert len(np.unique(labels[found.partner[found.partner >= 0]])) == 10  # of any class


# -- properties of each ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(seeds, totals, st.integers(1, FRAMES), st.integers(1, FRAMES))
def test_more_frames_of_a_track_mean_fewer_tracks_at_the_same_counts(
        seed: int, total: int, one: int, two: int) -> None:
    few, many = sorted((one, two))
    spread, packed = (run({"tracks": {"frames": n}}, total, seed) for n in (few, many))
    assert len(spread) == len(packed) == total == len(np.unique(packed.index))
    assert (histogram(spread) == histogram(packed)).all()
    used = [len(np.unique(ORIGIN[chosen.index])) for chosen in (spread, packed)]
    assert used[0] >= used[1]
    for label, size in enumerate(histogram(packed)):
        tracks = len(np.unique(ORIGIN[packed.index[LABELS[packed.index] == label]]))
        assert tracks == min(-(-size // many), TRACKS)


@settings(deadline=None, max_examples=40)
@given(seeds, totals, st.floats(0, 1), st.sampled_from(["a", "b", "c", ""]))
def test_purity_is_the_share_of_one_coarse_class(seed: int, total: int, share: float,
                                                 coarse: str) -> None:
    total = min(total, 200)  # what the smallest coarse class has
    found = run({"purity": {"share": share, "coarse": coarse}}, total, seed)
    again = run({"purity": {"share": share, "coarse": coarse}}, total, seed)
    assert len(found) == total and (found.index == again.index).all()
    names = np.array(COARSE.coarse_names)[LABELS[found.index]]
    if coarse:  # at least one image of each class, and whole images
        assert abs((names == coarse).sum() - share * total) <= CLASSES


@settings(deadline=None, max_examples=40)
@given(seeds, totals, st.floats(0, 0.9), st.floats(0, 0.9), st.booleans())
def test_foreign_images_replace_a_share_or_are_added(seed: int, total: int, one: float, two: float,
                                                     fixed: bool) -> None:
    total = min(total, 400)
    low, high = (run({"mixture": {**MIXED, "share": share, "foreign": 5000, "fixed": fixed}}, total,
                     seed) for share in sorted((one, two)))
    foreign = [chosen.index[chosen.index >= len(LABELS)] for chosen in (low, high)]
    for chosen, drawn, share in zip((low, high), foreign, sorted((one, two)), strict=True):
        whole = total if fixed else len(chosen)
        assert len(chosen) == whole and abs(len(drawn) - share * whole) <= 0.5 + 1e-6
        assert len(chosen) - len(drawn) == histogram(chosen).sum()
        assert fixed or histogram(chosen).sum() == total
    assert np.isin(foreign[0], foreign[1]).all() and len(np.unique(foreign[1])) == len(foreign[1])


def test_a_source_with_too_few_foreign_images_says_by_how_many() -> None:
    with pytest.raises(ValueError, match="needs 450 images of source 'digits', which has 400: 50 "):
        run({"mixture": {**MIXED, "share": 0.75}}, 600)
    with pytest.raises(datasets.DatasetError, match="needs 2000 images of source 'digits', which"):
        datasets.resolve({"source": "photos", "size": 4000, "controls": {
            "mixture": {"share": 0.5, "source": "digits"}}})


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_halves_change_frequent_and_rare_classes_as_liu_et_al(seed: int, one: float,
                                                              two: float) -> None:
    tail = {"long_tail": {"imbalance": 20.0, "profile": "step"}}
    plain = run(tail, 300, seed)
    low, high = (run({**tail, "spurious": {"share": share}}, 300, seed)
                 for share in sorted((one, two)))
    assert low.partner is not None and high.partner is not None
    assert (low.index == plain.index).all()
    assert ((low.partner == OWN) | (low.partner == high.partner)).all()
    rare = LABELS[high.index] >= CLASSES // 2
    assert (high.partner[rare] < 0).all() and (high.partner[~rare] != BLANK).all()
    whole = run({**tail, "spurious": {"share": 1.0}}, 300, seed).partner
    assert whole is not None and (whole[rare] == BLANK).all() and (whole[~rare] >= 0).all()


# -- all of them together -------------------------------------------------------------------------

STEPS: dict[str, dict[str, Any]] = {
    "diversity": {"classes": 4}, "tracks": {"frames": 4}, "long_tail": {"imbalance": 3.0},
    "correlation": {"repeats": 3}, "spurious": {"share": 0.5}, "mixture": MIXED}


@settings(deadline=None, max_examples=40)
@given(seeds, st.lists(st.sampled_from(sorted(STEPS)), unique=True), st.randoms())
def test_any_controls_together_keep_the_total_whatever_the_order_of_writing(
        seed: int, names: list[str], random: Any) -> None:
    one = run({name: STEPS[name] for name in names}, 300, seed)
    random.shuffle(names)
    two = run({name: STEPS[name] for name in names}, 300, seed)
    assert len(one) == 300 and (one.index == two.index).all() and (one.copy == two.copy).all()
    assert (one.partner is None) == (two.partner is None) == ("spurious" not in names)
    if one.partner is not None and two.partner is not None:
        assert (one.partner == two.partner).all()
    own = 210 if "mixture" in names else 300
    assert histogram(one).sum() == own and (one.index[:own] < len(LABELS)).all()


def test_near_duplicates_share_the_partner_of_their_image() -> None:
    both = run({"correlation": {"repeats": 5}, "spurious": {"share": 0.5}}, 300)
    assert both.partner is not None
    for image in np.unique(both.index):
        assert len(np.unique(both.partner[both.index == image])) == 1


def test_two_controls_of_the_class_counts_are_refused() -> None:
    for name, values in (("purity", {"share": 0.5}), ("ldam", {"imbalance": 2.0})):
        with pytest.raises(ValueError, match="both say how many images each class has"):
            run({"long_tail": {"imbalance": 2.0}, name: values}, 60)


@pytest.mark.parametrize(("steps", "message"), [
    ({"ldam": {"imbalance": 0.5}}, "at least 1"),
    ({"ldam": {"imbalance": 2.0, "profile": "pareto"}}, "'exponential' or 'step'"),
    ({"tracks": {"frames": 0}}, "at least 1"), ({"spurious": {"share": 1.5}}, "between 0 and 1"),
    ({"purity": {"share": -0.1}}, "between 0 and 1"),
    ({"purity": {"share": 0.5, "coarse": "d"}}, "unknown coarse class 'd'"),
    ({"mixture": {**MIXED, "share": 1.0}}, "below 1"),
])
def test_bad_parameters_name_the_legal_ones(steps: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(steps, None if "ldam" in steps else 300)


def test_tracks_and_purity_need_a_source_that_knows() -> None:
    alone = Pool(LABELS, np.full_like(LABELS, -1), np.zeros_like(LABELS), np.arange(len(LABELS)))
    with pytest.raises(ValueError, match="1200 of 1200 have none: use a source with tracks"):
        controls.apply(alone, {"tracks": {"frames": 2}}, 60, 0)
    with pytest.raises(ValueError, match="set controls.purity.file"):
        controls.apply(pool(), {"purity": {"share": 0.5}}, 60, 0)


def test_a_hierarchy_is_read_from_a_file_and_enters_the_fingerprint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (80, 8, 8), dtype=np.uint8), np.arange(80) % 4
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    file = tmp_path / "tree.json"
    spec: dict[str, Any] = {
        "source": "npz", "path": str(tmp_path / "x.npz"), "size": 24, "options": {"holdout": False},
        "controls": {"purity": {"share": 0.75, "coarse": "n1", "file": "tree.json"}}}
    file.write_text(json.dumps({"0": "n1", "1": "n1", "2": "n2"}))
    with pytest.raises(datasets.DatasetError, match=r"for 1 of 4 classes \(first: 3\)"):
        datasets.resolve(spec)
    file.write_text(json.dumps({"0": "n1", "1": "n1", "2": "n2", "3": "n2"}))
    one = datasets.resolve(spec)
    assert one["class_counts"] == [9, 9, 3, 3]
    file.write_text(json.dumps({"0": "n1", "1": "n2", "2": "n1", "3": "n2"}))
    two = datasets.resolve(spec)
    assert two["class_counts"] == [9, 3, 9, 3] and two["fingerprint"] != one["fingerprint"]


def test_cifar100_has_20_superclasses_of_5_classes() -> None:
    coarse = datasets.SOURCES["cifar100"]().coarse_names()
    assert coarse is not None
    assert sorted(np.unique(coarse, return_counts=True)[1].tolist()) == [5] * 20


# -- images ---------------------------------------------------------------------------------------


def test_a_mixture_is_built_from_both_sources_and_leaves_the_other_splits_alone() -> None:
    spec: dict[str, Any] = {"source": "photos", "size": 100, "controls": {
        "mixture": {"share": 0.6, "source": "digits"}, "long_tail": {"imbalance": 3.0}}}
    resolved = datasets.resolve(spec)
    assert (resolved["images"], resolved["unlabelled"], sum(resolved["class_counts"])) == (
        100, 60, 40)
    train = datasets.build(resolved, "train")
    assert len(train) == 100 and (train.labels == -1).sum() == 60 and train.pixels.shape[1] == 32
    digits = datasets.build(datasets.resolve({"source": "digits", "image_size": 32}), "train")
    known = {image.tobytes() for image in digits.pixels}
    assert [image.tobytes() in known for image in train.pixels] == [False] * 40 + [True] * 60
    plain = datasets.resolve({"source": "photos", "size": 40, "controls": {
        "long_tail": {"imbalance": 3.0}}})
    assert (train.pixels[:40] == datasets.build(plain, "train").pixels).all()
    for split in ("validation", "test"):
        assert (datasets.build(resolved, split).pixels
                == datasets.build(plain, split).pixels).all()
    assert datasets.foreign(resolved)["source"] == "digits"  # type: ignore[index]


def test_the_place_of_foreign_images_is_in_no_fingerprint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8), np.arange(40) % 4
    for name in ("one.npz", "two.npz"):
        np.savez(tmp_path / name, x_train=x, y_train=y, x_test=x, y_test=y)
    found = [datasets.resolve({"source": "photos", "size": 40, "controls": {"mixture": {
        "share": 0.5, "source": "npz", "path": str(tmp_path / name)}}})
        for name in ("one.npz", "two.npz")]
    assert found[0] == found[1] and str(tmp_path) not in json.dumps(found[0])
    built = datasets.build(found[0], "train", foreign_path=tmp_path / "two.npz")
    assert (built.labels == -1).sum() == 20
    assert {i.tobytes() for i in built.pixels[20:]} <= {i.tobytes() for i in x}
    with pytest.raises(datasets.DatasetError, match="controls.mixture: source 'npz' needs a file"):
        datasets.resolve({"source": "photos", "size": 40, "controls": {"mixture": {
            "share": 0.5, "source": "npz"}}})


def test_halves_are_put_together_from_the_images_that_the_selection_names() -> None:
    spec: dict[str, Any] = {"source": "photos", "size": 95, "controls": {"spurious": {}}}
    plain = datasets.build(datasets.resolve({**spec, "controls": {}}), "train")
    resolved = datasets.resolve(spec)
    built, chosen = datasets.build(resolved, "train"), datasets.select(resolved, "train")
    source = datasets.open_source({"source": "photos"})
    assert chosen.partner is not None
    frequent = chosen.partner >= 0
    assert frequent.sum() == 45 and (built.pixels[~frequent][:, :, :16] == 0).all()
    assert (built.pixels[frequent][:, :, :16] == plain.pixels[frequent][:, :, :16]).all()
    right = source.pixels("train", chosen.partner[frequent])[:, :, 16:]
    assert (built.pixels[frequent][:, :, 16:] == right).all()
    assert (built.pixels[~frequent][:, :, 16:] == plain.pixels[~frequent][:, :, 16:]).all()


@pytest.mark.parametrize("name", sorted(STEPS))
def test_no_control_reaches_beyond_the_training_images(name: str) -> None:
    """Test and validation are whole, and what is trained on is of the training pool alone."""
    values = STEPS[name] if name != "mixture" else {"share": 0.3, "source": "digits"}
    spec: dict[str, Any] = {"source": "photos", "size": 190}
    resolved = datasets.resolve({**spec, "controls": {name: values}})
    source = datasets.open_source(spec)
    for split in ("validation", "test"):
        chosen = datasets.select(resolved, split)
        assert (chosen.index == np.arange(len(source.pool(split)))).all()
        assert not chosen.copy.any() and chosen.partner is None
    chosen = datasets.select(resolved, "train")
    size = len(source.pool("train"))
    assert len(chosen) == 190 and (chosen.index < size).sum() == (190 if name != "mixture" else 133)
    assert chosen.partner is None or chosen.partner.max() < size


def test_a_published_set_needs_no_size_and_the_planner_gives_it_none() -> None:
    assert datasets.sized({"ldam": {}}) and datasets.sized({"index_list": {}, "spurious": {}})
    assert not datasets.sized({}) and not datasets.sized({"ldam": {}, "correlation": {}})
    assert not datasets.sized({"index_list": {}, "mixture": {}})
    assert datasets.sized({"ldam": {}, "mixture": {"fixed": False}})
    assert counts.sdclr_counts(10).sum() == 11165
