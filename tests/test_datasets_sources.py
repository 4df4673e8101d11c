"""Sources other than photos: splits by origin, bad files, missing data, fingerprints of content."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import datasets
from datasets.sources import holdout

CLASSES = 4


def arrays(n: int = 80, side: int = 12, channels: int | None = 3, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shape = (side, side) if channels is None else (side, side, channels)
    labels = np.arange(n) % CLASSES
    return {"x_train": rng.integers(0, 256, (n, *shape), dtype=np.uint8), "y_train": labels,
            "x_test": rng.integers(0, 256, (n // 2, *shape), dtype=np.uint8),
            "y_test": labels[:n // 2]}


def npz(folder: Path, **changes: Any) -> Path:
    content = {**arrays(), **changes}
    path = folder / "images.npz"
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


def resolve_npz(path: Path, **more: Any) -> dict[str, Any]:
    return datasets.resolve({"source": "npz", "path": str(path), **more})


def problems(spec: dict[str, Any]) -> list[str]:
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.resolve(spec)
    assert caught.value.problems and all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


# --- hold-out


def test_holdout_is_class_balanced_and_by_origin() -> None:
    labels = np.repeat(np.arange(5), 100)
    held = holdout(labels, np.full(500, -1))
    assert np.bincount(labels[held]).tolist() == [10] * 5
    origin = np.arange(500) // 5  # 20 origins of 5 images in each class
    held = holdout(labels, origin)
    assert np.bincount(labels[held]).tolist() == [10] * 5
    assert not set(origin[held]) & set(origin[~held])


def test_a_class_with_one_origin_or_one_image_keeps_it_for_training() -> None:
    labels = np.array([0] * 50 + [1] * 50 + [2])
    origin = np.array([0] * 50 + [1, 2] * 25 + [3])
    held = holdout(labels, origin)
    assert held[labels == 0].sum() == 0 and held[labels == 2].sum() == 0
    assert held[labels == 1].sum() == 25


# --- npz


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_npz_builds_three_disjoint_splits_in_colour(tmp_path: Path, channels: int | None) -> None:
    content = arrays(channels=channels)
    path = npz(tmp_path, **content)
    resolved = resolve_npz(path)
    built = {split: datasets.build(resolved, split, path) for split in datasets.SPLITS}
    assert [len(built[split]) for split in datasets.SPLITS] == [72, 8, 40]
    assert resolved["images"] == 72 and resolved["image_size"] == 12
    assert all(images.pixels.shape[1:] == (12, 12, 3) for images in built.values())
    seen = {image.tobytes() for image in built["train"].pixels}
    assert not seen & {image.tobytes() for image in built["validation"].pixels}
    assert "path" not in resolved and str(tmp_path) not in str(resolved)


def test_npz_resizes_on_request_and_keeps_tracks_together(tmp_path: Path) -> None:
    tracks = np.arange(80) // 8 * CLASSES + np.arange(80) % CLASSES
    path = npz(tmp_path, track_train=tracks, class_names=np.array(list("abcd")))
    resolved = resolve_npz(path, image_size=16)
    train, held = (datasets.build(resolved, split, path) for split in ("train", "validation"))
    assert train.pixels.shape[1:] == (16, 16, 3) and train.class_names == tuple("abcd")
    assert len(held) > 0 and not set(train.origin) & set(held.origin)


def test_npz_uses_its_own_validation_split(tmp_path: Path) -> None:
    extra = arrays(seed=5)
    path = npz(tmp_path, x_validation=extra["x_test"], y_validation=extra["y_test"])
    resolved = resolve_npz(path)
    assert resolved["images"] == 80
    np.testing.assert_array_equal(datasets.build(resolved, "validation", path).pixels,
                                  extra["x_test"])


def test_fingerprint_follows_content_not_paths(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    one, two = npz(tmp_path), npz(tmp_path / "b")
    assert resolve_npz(one)["fingerprint"] == resolve_npz(two)["fingerprint"]
    other = npz(tmp_path / "b", x_train=arrays(seed=1)["x_train"])
    assert resolve_npz(one)["fingerprint"] != resolve_npz(other)["fingerprint"]
    base = resolve_npz(one, size=40)["fingerprint"]
    for change in ({"size": 44}, {"size": 40, "seed": 1},
                   {"size": 40, "controls": {"long_tail": {"imbalance": 2}}},
                   {"size": 40, "controls": {"correlation": {"repeats": 2}}}):
        assert resolve_npz(one, **change)["fingerprint"] != base, change


def test_near_duplicates_are_deterministic_distinct_and_near(tmp_path: Path) -> None:
    smooth = np.linspace(20, 220, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    rng = np.random.default_rng(0)
    pixels = smooth[None] + rng.integers(0, 20, (80, 1, 1, 3)).astype(np.uint8)
    path = npz(tmp_path, x_train=pixels, x_test=pixels[:40])
    resolved = resolve_npz(path, size=64, controls={"correlation": {"repeats": 8}})
    one, two = (datasets.build(resolved, "train", path) for _ in range(2))
    assert (one.pixels == two.pixels).all() and len(one) == 64
    chosen = datasets.select(resolved, "train", path)
    assert len(np.unique(chosen.index)) == 8 and len({p.tobytes() for p in one.pixels}) == 64
    family = one.pixels[chosen.index == chosen.index[0]].astype(float)
    assert len(family) == 8 and np.abs(family - family[:1]).mean() < 40


BAD_NPZ: list[tuple[str, dict[str, Any], str]] = [
    ("missing key", {"y_test": None}, "lacks y_test"),
    ("float pixels", {"x_train": np.zeros((80, 12, 12, 3))}, "must be uint8"),
    ("two channels", {"x_train": np.zeros((80, 12, 12, 2), np.uint8)}, "N x H x W x 1 or 3"),
    ("no images", {"x_train": np.zeros((0, 12, 12, 3), np.uint8),
                   "y_train": np.zeros(0, int)}, "at least one image"),
    ("lengths", {"y_train": np.arange(79) % 4}, "79 entries in y_train for 80 images"),
    ("float labels", {"y_train": np.zeros(80)}, "whole numbers"),
    ("class not in test", {"y_test": np.arange(40) % 3}, "no image of class 3 in y_test"),
    ("gap", {"y_train": np.arange(80) % 4 * 2, "y_test": np.arange(40) % 4 * 2},
     "no image of class 1, 3, 5 in y_train"),
    ("negative", {"y_train": np.arange(80) % 4 - 1}, "negative labels"),
    ("objects", {"y_train": np.array([{}] * 80, dtype=object)}, "Python objects in y_train"),
    ("sides", {"x_test": np.zeros((40, 8, 8, 3), np.uint8)}, "different sides"),
    ("names", {"class_names": np.array(["a"])}, "4 classes but 1 class_names"),
    ("tracks", {"track_train": np.zeros(3, int)}, "3 entries in track_train for 80 images"),
]


@pytest.mark.parametrize(("case", "changes", "message"), BAD_NPZ)
def test_a_bad_npz_is_one_line(tmp_path: Path, case: str, changes: dict[str, Any],
                               message: str) -> None:
    found = problems({"source": "npz", "path": str(npz(tmp_path, **changes))})
    assert len(found) == 1 and message in found[0], case


def test_a_truncated_a_foreign_and_an_absent_npz_are_one_line(tmp_path: Path) -> None:
    path = npz(tmp_path)
    path.write_bytes(path.read_bytes()[:-500])
    assert "truncated or no .npz" in problems({"source": "npz", "path": str(path)})[0]
    path.write_text("not an archive")
    assert "truncated or no .npz" in problems({"source": "npz", "path": str(path)})[0]
    assert "finds no file" in problems({"source": "npz", "path": str(tmp_path / "no.npz")})[0]
    assert "set data.path=FILE.npz" in problems({"source": "npz"})[0]


def test_damaged_pixels_inside_an_npz_are_noticed_when_read(tmp_path: Path) -> None:
    path = npz(tmp_path)
    resolved = resolve_npz(path)
    raw = bytearray(path.read_bytes())
    raw[2000] ^= 0xFF  # inside x_train: the archive's own checksum tells
    path.write_bytes(bytes(raw))
    with pytest.raises(datasets.DatasetError, match="x_train in .* the file is damaged"):
        datasets.build(resolved, "train", path)


# --- folder


def folder(root: Path, parts: tuple[str, ...] = ("train", "test"), n: int = 20) -> Path:
    rng = np.random.default_rng(0)
    for part in parts:
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(n):
                image = Image.fromarray(rng.integers(0, 256, (24, 36, 3), dtype=np.uint8))
                suffix = (".png", ".jpg", ".webp")[number % 3]
                image.save(root / part / name / f"{number:03d}{suffix}")
    return root


def folder_spec(root: Path, **options: Any) -> dict[str, Any]:
    return {"source": "folder", "path": str(root), "image_size": 16, "options": options}


def test_a_folder_is_decoded_and_split(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "train" / "cat" / ".hidden").write_text("ignored")
    resolved = datasets.resolve(folder_spec(root))
    sizes = {split: len(datasets.build(resolved, split, root)) for split in datasets.SPLITS}
    assert sizes == {"train": 36, "validation": 4, "test": 40}
    train = datasets.build(resolved, "train", root)
    assert train.pixels.shape[1:] == (16, 16, 3) and train.class_names == ("cat", "dog")


def test_a_folder_without_a_test_part_holds_one_out(tmp_path: Path) -> None:
    root = folder(tmp_path, ("train",))
    resolved = datasets.resolve(folder_spec(root))
    built = {split: datasets.build(resolved, split, root) for split in datasets.SPLITS}
    assert {split: len(images) for split, images in built.items()} == {
        "train": 32, "validation": 4, "test": 4}
    assert len({p.tobytes() for images in built.values() for p in images.pixels}) == 40


def test_unreadable_files_are_refused_by_name_or_skipped_on_request(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder(tmp_path)
    victim = root / "train" / "cat" / "001.jpg"
    victim.write_bytes(victim.read_bytes()[:300])
    (root / "train" / "dog" / "000.png").write_text("no picture")
    resolved = datasets.resolve(folder_spec(root))
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.build(resolved, "train", root)
    line = caught.value.problems[0]
    assert "2 of 40 files" in line and "train/cat/001.jpg (" in line
    assert "train/dog/000.png (not an image)" in line
    assert "data.options.on_corrupt=skip" in line
    with caplog.at_level(logging.WARNING):
        skipping = datasets.resolve(folder_spec(root, on_corrupt="skip"))
        built = datasets.build(skipping, "train", root)
    assert len(built) == skipping["images"] == 34
    assert "2 of 40 files are no readable images" in caplog.text
    assert not datasets.left_out(folder_spec(root))
    (said,) = datasets.left_out(folder_spec(root, on_corrupt="skip"))
    assert "goes on without 2 files" in said and "train/dog/000.png (not an image)" in said


def test_files_that_are_no_images_are_refused_before_anything_runs(tmp_path: Path) -> None:
    root = folder(tmp_path)
    for number in range(12):
        (root / "train" / "dog" / f"note{number:02d}.txt").write_text("hello")
    line = problems(folder_spec(root))[0]
    assert "12 of 52 files" in line and "note00.txt (not an image)" in line and "2 more" in line


def test_a_folder_laid_out_otherwise_shows_the_expected_tree(tmp_path: Path) -> None:
    assert "expected data.path=FOLDER with train/<class>" in problems(folder_spec(tmp_path))[0]
    root = folder(tmp_path / "x")
    for path in (root / "test" / "dog").iterdir():
        path.unlink()
    assert "test has no images of class dog" in problems(folder_spec(root))[0]
    assert "set data.image_size" in problems({"source": "folder", "path": str(root)})[0]
    assert "'error' or 'skip'" in problems(folder_spec(root, on_corrupt="ignore"))[0]
    (root / "test" / "dog").rmdir()
    (root / "test" / "cat").rename(root / "cat")
    assert "has no files" in problems(folder_spec(root))[0]


def test_image_modes_become_rgb(tmp_path: Path) -> None:
    root = folder(tmp_path)
    where = root / "train" / "cat"
    Image.new("RGBA", (20, 20), (10, 20, 30, 0)).save(where / "a_clear.png")
    Image.fromarray(np.full((20, 20), 65535, np.uint16)).save(where / "b_deep.png")
    Image.new("P", (20, 20)).save(where / "c_palette.png")
    Image.new("L", (20, 20), 7).save(where / "d_grey.png")
    source: Any = datasets.open_source(folder_spec(root))
    listed = [path.name for path in source._listing("train").files]
    ids = np.array([listed.index(name) for name in
                    ("a_clear.png", "b_deep.png", "c_palette.png", "d_grey.png")])
    values = source.decode("train", ids)[:, 0, 0].tolist()
    assert values == [[255] * 3, [255] * 3, [0] * 3, [7] * 3]
