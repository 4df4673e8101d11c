"""YFCC100M: shards of three kinds read alike, are counted and never listed, and damage is named."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import datasets
from datasets.sources import yfcc

KINDS = ("tar", "zip", "folder")
SHARDS = (4, 5, 6)


def picture(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 16), (number * 10, 50, 60)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def write(root: Path, kind: str) -> Path:
    """15 images in 3 shards; image n has the red value 10 n."""
    first = 0
    for shard, images in enumerate(SHARDS):
        files = {f"{n:05d}.jpg": picture(n) for n in range(first, first + images)}
        first += images
        place = root / {"tar": f"{shard:05d}.tar", "zip": f"{shard:03x}.zip",
                        "folder": f"{shard:03x}/abc"}[kind]
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind == "tar":
            with tarfile.open(place, "w") as archive:
                for name, data in files.items():
                    for file, content in ((name, data), (f"{name[:-4]}.json", b"{}")):
                        entry = tarfile.TarInfo(file)
                        entry.size = len(content)
                        archive.addfile(entry, io.BytesIO(content))
        elif kind == "zip":
            with zipfile.ZipFile(place, "w") as packed:
                for name, data in files.items():
                    packed.writestr(name, data)
        else:
            place.mkdir(parents=True)
            for name, data in files.items():
                (place / name).write_bytes(data)
    return root


def spec(root: Path, **more: Any) -> dict[str, Any]:
    return {"source": "yfcc100m", "path": str(root), "image_size": 8, **more}


def reds(pixels: Any) -> list[int]:
    return pixels[:, 4, 4, 0].tolist()


def problem(root: Path) -> str:
    yfcc._shards.cache_clear()
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.resolve(spec(root))
    line, = caught.value.problems
    assert "\n" not in line and "python -m yfcc100m.download" in line
    return line


@pytest.mark.parametrize("kind", KINDS)
def test_shards_of_every_kind_are_read_in_order(tmp_path: Path, kind: str) -> None:
    root = write(tmp_path, kind)
    if kind != "zip":  # whose table says how many
        assert yfcc.HOW_TO_COUNT.format(root) in problem(root)
        assert yfcc.write_sizes(root) == 15
    resolved = datasets.resolve(spec(root))
    assert resolved["images"] == resolved["unlabelled"] == 15
    train = datasets.build(resolved, "train", root)
    assert len(train) == 15 and reds(train.pixels[0:15]) == [10 * n for n in range(15)]
    assert train.pixels.at(np.array([1, 8])).shape == (2, 8, 8, 3)
    assert reds(train.pixels[np.array([1, 8])]) == [10, 80]
    assert all(len(datasets.build(resolved, split, root)) == 0 for split in ("validation", "test"))
    some = datasets.build(datasets.resolve(spec(root, size=7)), "train", root)
    assert len(some) == 7 and reds(some.pixels[0:7]) == [10 * n for n in range(7)]


def test_counts_of_img2dataset_are_taken(tmp_path: Path) -> None:
    root = write(tmp_path, "tar")
    for shard, images in enumerate(SHARDS):
        (root / f"{shard:05d}_stats.json").write_text(json.dumps({"successes": images}))
    assert datasets.resolve(spec(root))["images"] == 15


def test_absent_damaged_and_miscounted_shards_are_one_line(tmp_path: Path) -> None:
    assert "finds no folder" in problem(tmp_path / "none")
    assert "no .tar, no .zip and no sizes.json" in problem(tmp_path)
    root = write(tmp_path / "a", "tar")
    yfcc.write_sizes(root)
    resolved = datasets.resolve(spec(root))
    (root / "00001.tar").write_bytes((root / "00001.tar").read_bytes()[:2000])
    train = datasets.build(resolved, "train", root)
    with pytest.raises(datasets.DatasetError, match=r"00001\.tar"):
        train.pixels[0:15]
    (root / "00002.tar").unlink()
    assert "has 1 of 3 shards" in problem(root) and "00002.tar" in problem(root)
    (root / "sizes.json").write_text('["00000.tar"]')
    assert "must map each shard's name" in problem(root)
    (root / "sizes.json").unlink()
    zips = write(tmp_path / "b", "zip")
    (zips / "001.zip").write_bytes(b"PK half")
    assert f"cannot read {zips}" in problem(zips)


def test_controls_are_refused_and_too_many_images_named(tmp_path: Path) -> None:
    root = write(tmp_path, "zip")
    for more, message in (({"size": 16}, "reduce size by 1"),
                          ({"size": 9, "controls": {"correlation": {"repeats": 3}}}, "streamed")):
        with pytest.raises(datasets.DatasetError, match=message):
            datasets.resolve(spec(root, **more))


def test_a_hundred_million_images_take_the_memory_of_their_shards(tmp_path: Path) -> None:
    counted = {f"{shard:05d}.tar": 100_000 for shard in range(1_000)}
    (tmp_path / "sizes.json").write_text(json.dumps(counted))
    for name in counted:
        (tmp_path / name).touch()
    tracemalloc.start()
    try:
        resolved = datasets.resolve(spec(tmp_path))
        train = datasets.build(resolved, "train", tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert resolved["images"] == len(train) == 100_000_000
    assert peak < 10e6  # a list of the images would take 800 MB as int64 alone
    assert train.pixels.listing.path(999) == tmp_path / "00999.tar"
