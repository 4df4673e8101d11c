"""Index lists: the official ones load and give their published totals; bad ones are one line.

The official lists are not part of this repository. The tests look for them in
$CURATION_GAP_SHARED/data/lists, else in ../shared/data/lists, and skip if they are not there.
"""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import datasets
from datasets import counts, lists

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("CURATION_GAP_SHARED", ROOT.parent / "shared"))
LISTS = SHARED / "data" / "lists"


def official(name: str) -> Path:
    path = LISTS / name
    if not path.is_file():
        pytest.skip(f"official list {name} is not in {LISTS}; set CURATION_GAP_SHARED")
    return path


def cifar_labels() -> np.ndarray:
    """CIFAR-10's official training labels, from the development copy."""
    path = SHARED / "data" / "cifar10" / "cifar10_jpeg75.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set CURATION_GAP_SHARED")
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["train_labels"].astype(np.int64)


@pytest.mark.parametrize("split", range(1, 6))
@pytest.mark.parametrize(("classes", "prefix", "tail", "balanced", "few"), [
    (10, "", 11165, 11160, 450), (100, "cifar100_", 9754, 9700, 400)])
def test_sdclr_lists_have_their_published_totals(split: int, classes: int, prefix: str, tail: int,
                                                 balanced: int, few: int) -> None:
    path = official(f"sdclr_cifar/sdclr_cifar{classes}_splits.npz")
    total = {name: np.asarray(lists.read(path, f"{prefix}split{split}_{name}").ids)
             for name in ("D_i", "D_b", "S_b")}
    assert [len(total[name]) for name in ("D_i", "D_b", "S_b")] == [tail, balanced, few]
    assert counts.sdclr_counts(classes).sum() == tail
    assert np.isin(total["S_b"], total["D_b"]).all()
    assert all(len(np.unique(ids)) == len(ids) for ids in total.values())


def test_sdclr_lists_have_the_counts_of_our_builder_in_some_class_order() -> None:
    path, labels = official("sdclr_cifar/sdclr_cifar10_splits.npz"), cifar_labels()
    for split in range(1, 6):
        listed = lists.read(path, f"split{split}_D_i")
        assert listed.ids is not None
        found = np.sort(np.bincount(labels[listed.ids]))[::-1]
        np.testing.assert_array_equal(found, counts.sdclr_counts(10))


def test_an_sdclr_list_as_a_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official("sdclr_cifar/sdclr_cifar10_splits.npz")
    labels = cifar_labels()
    monkeypatch.setenv(lists.PLACES, str(LISTS))
    # one-pixel stand-ins with the official labels: the control acts on indices alone
    pixels = np.zeros((50_000, 4, 4), np.uint8)
    pixels[:, 0, 0] = np.arange(50_000) % 256
    np.savez(tmp_path / "c.npz", x_train=pixels, y_train=labels, x_test=pixels[:500],
             y_test=np.arange(500) % 10)
    spec: dict[str, Any] = {"source": "npz", "path": str(tmp_path / "c.npz"), "controls": {
        "index_list": {"file": "sdclr_cifar/sdclr_cifar10_splits.npz", "key": "split1_D_i"}}}
    with pytest.raises(datasets.DatasetError, match="set data.options.holdout=false"):
        datasets.resolve(spec)
    spec["options"] = {"holdout": False}
    resolved = datasets.resolve(spec)
    assert resolved["images"] == 11165 and sorted(resolved["class_counts"])[::9] == [45, 4500]
    built = datasets.build(resolved, "train", tmp_path / "c.npz")
    listed = lists.read(LISTS / "sdclr_cifar/sdclr_cifar10_splits.npz", "split1_D_i")
    assert listed.ids is not None and str(LISTS) not in json.dumps(resolved)
    np.testing.assert_array_equal(np.sort(built.pixels[:, 0, 0, 0]), np.sort(listed.ids % 256))
    balanced = {**spec, "controls": {"index_list": {
        "file": "sdclr_cifar/sdclr_cifar10_splits.npz", "key": "split1_D_b"}}}
    assert datasets.resolve(balanced)["class_counts"] == [1116] * 10


def test_places_lt_list_has_its_published_totals() -> None:
    train = lists.read(official("places_lt/Places_LT_train.txt.xz"))
    per_class = lists.class_counts(train)
    assert len(train) == 62_500 and len(per_class) == 365
    assert per_class.max() == 4980 and per_class.min() == 5
    groups = [(per_class > 100).sum(), ((per_class >= 20) & (per_class <= 100)).sum(),
              (per_class < 20).sum()]
    assert groups == [131, 163, 71]
    for name, each in (("val", 20), ("test", 100)):
        held = lists.class_counts(lists.read(official(f"places_lt/Places_LT_{name}.txt.xz")))
        assert (held == each).all() and len(held) == 365


def test_imagenet_lt_lists_have_their_published_totals() -> None:
    for name, each in (("val", 20), ("test", 50)):
        held = lists.class_counts(lists.read(official(f"imagenet_lt/ImageNet_LT_{name}.txt.xz")))
        assert (held == each).all() and len(held) == 1000
    frequency = json.loads(official("imagenet_lt/ImageNet_LT_train_class_freq.json").read_text())
    values = frequency if isinstance(frequency, list) else list(frequency.values())
    per_class = np.sort(np.array(values, dtype=int))[::-1]
    assert (per_class.sum(), per_class[0], per_class[-1]) == (115_846, 1280, 5)
    built = counts.apportion(counts.profile_weights("pareto", 1000, 256, 6.0), 115_846)
    assert np.abs(built - per_class).sum() < 0.06 * 115_846  # the law, not the same draw
    part = lists.read(official("imagenet_lt/ImageNet_LT_train_90classes_subset.txt.xz"))
    there = np.flatnonzero(lists.class_counts(part))
    assert len(part) == 7614 and len(there) == 90


def test_imagenet100_lt_lists_have_their_published_totals() -> None:
    per_class = lists.class_counts(lists.read(
        official("imagenet100_lt/imageNet_100_LT_train.txt.xz")))
    assert per_class.sum() == 12_205 and (per_class.max(), per_class.min()) == (1280, 6)
    groups = [(per_class > 100).sum(), ((per_class >= 20) & (per_class <= 100)).sum(),
              (per_class < 20).sum()]
    assert groups == [39, 48, 13]
    twin = lists.class_counts(lists.read(official("imagenet100_lt/imageNet_100_BL_train.txt.xz")))
    assert (twin == 122).all() and twin.sum() == 12_200


def test_a_list_of_file_names_selects_from_a_folder(tmp_path: Path) -> None:
    for part, number in (("train", 6), ("test", 2)):
        for name in ("n01", "n02"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(number):
                Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / part / name / f"{name}_{i}.png")
    lines = [f"train/n01/n01_{i}.png 0" for i in (0, 2, 4)] + ["train/n02/n02_5.png 1"]
    (tmp_path / "tail.txt.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
    spec: dict[str, Any] = {"source": "folder", "path": str(tmp_path), "image_size": 8,
                            "options": {"holdout": False},
                            "controls": {"index_list": {"file": "tail.txt.xz"}}}
    resolved = datasets.resolve(spec)
    assert resolved["class_counts"] == [3, 1]
    built = datasets.build(resolved, "train", tmp_path)
    assert sorted(built.pixels[:, 0, 0, 0].tolist()) == [0, 2, 4, 5]
    lines[0] = "train/n01/n01_99.png 0"
    (tmp_path / "tail.txt.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
    with pytest.raises(datasets.DatasetError, match="names 1 images that the training split lacks"):
        datasets.resolve(spec)


def test_the_content_of_a_list_is_in_the_fingerprint(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(50))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (80, 8, 8), dtype=np.uint8), np.arange(80) % 4
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    spec = {"source": "npz", "path": str(tmp_path / "x.npz"), "options": {"holdout": False},
            "controls": {"index_list": {"file": "a.npy"}}}
    one = datasets.resolve(spec)
    np.save(tmp_path / "a.npy", np.arange(49))
    assert one["images"] == 50 and datasets.resolve(spec)["fingerprint"] != one["fingerprint"]


def test_bad_lists_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lists.PLACES, raising=False)
    with pytest.raises(ValueError, match="must be relative"):
        lists.find(str(tmp_path / "a.npy"), tmp_path)
    with pytest.raises(FileNotFoundError, match=lists.PLACES):
        lists.find("a.npy", tmp_path)
    cases: dict[str, bytes] = {"a.npy": b"no array", "a.txt": b"", "b.txt": b"a 1\nb\n",
                               "a.txt.xz": b"no xz", "a.csv": b"1\n"}
    for name, raw in cases.items():
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(ValueError, match=f"index list .*{name}"):
            lists.read(tmp_path / name)
    np.savez(tmp_path / "a.npz", one=np.arange(3), two=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="set key to one of one, two"):
        lists.read(tmp_path / "a.npz", "three")
    with pytest.raises(ValueError, match="whole numbers in one row"):
        lists.read(tmp_path / "a.npz", "two")
    (tmp_path / "ids.txt").write_text("5\n3\n\n")
    np.testing.assert_array_equal(lists.read(tmp_path / "ids.txt").ids, [5, 3])
