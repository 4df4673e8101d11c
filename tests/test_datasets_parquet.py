"""Parquet of images: both shapes of the image column, class names, row groups, wrong files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import datasets

NAMES = ["cat", "dog", "emu"]


def encoded(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (14, 10), (number, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write(path: Path, numbers: list[int], *, nested: bool = True, **columns: Any) -> None:
    images: list[Any] = [encoded(number) for number in numbers]
    if nested:
        images = [{"bytes": data, "path": f"{n}.png"} for n, data in zip(numbers, images,
                                                                         strict=True)]
    table = pa.table({"image": images, "label": [n % 3 for n in numbers], **columns})
    told = {"info": {"features": {"label": {"names": NAMES, "_type": "ClassLabel"}}}}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(told)}), path,
                   row_group_size=4)


def spec(root: Path, **options: Any) -> dict[str, Any]:
    return {"source": "parquet", "path": str(root), "image_size": 8, "options": options}


def problem(root: Path, **options: Any) -> str:
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.resolve(spec(root, **options))
    line, = caught.value.problems
    return line


@pytest.mark.parametrize("nested", [True, False])
def test_files_of_a_part_are_one_table(tmp_path: Path, nested: bool) -> None:
    write(tmp_path / "data/train-00000-of-00002.parquet", list(range(0, 30)), nested=nested)
    write(tmp_path / "data/train-00001-of-00002.parquet", list(range(30, 60)), nested=nested)
    write(tmp_path / "data/test-00000-of-00001.parquet", list(range(60, 66)), nested=nested)
    resolved = datasets.resolve(spec(tmp_path, holdout=False))
    assert resolved["images"] == 60 and resolved["class_counts"] == [20, 20, 20]
    train = datasets.build(resolved, "train", tmp_path)
    assert train.class_names == tuple(NAMES)
    assert train.pixels[:, 4, 4, 0].tolist() == list(range(60))
    assert (train.labels == np.arange(60) % 3).all()
    source: Any = datasets.open_source(spec(tmp_path))
    assert source.encoded("train", np.array([59, 0, 31])) == [encoded(n) for n in (59, 0, 31)]
    split = [len(datasets.build(datasets.resolve(spec(tmp_path)), s, tmp_path))
             for s in datasets.SPLITS]
    assert split == [54, 6, 6]


def test_the_fingerprint_follows_the_bytes(tmp_path: Path) -> None:
    found = []
    for name, first in (("a", 0), ("b", 0), ("c", 3)):
        write(tmp_path / name / "train.parquet", list(range(first, first + 30)))
        found.append(datasets.resolve(spec(tmp_path / name))["fingerprint"])
    assert found[0] == found[1] != found[2]


def test_images_without_labels(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", list(range(30)))
    assert datasets.open_source(spec(tmp_path, label="")).class_names == ("unlabelled",)
    write(tmp_path / "train.parquet", list(range(30)), label=pa.array([-1] * 30))
    assert "data.options.label=''" in problem(tmp_path)


def test_wrong_files_are_one_line(tmp_path: Path) -> None:
    assert "finds no train*.parquet" in problem(tmp_path) and "huggingface-cli" in problem(tmp_path)
    write(tmp_path / "train.parquet", list(range(30)))
    assert "has no column 'img' (it has image, label)" in problem(tmp_path, image="img")
    assert "has int64 in column 'label'" in problem(tmp_path, image="label")
    pq.write_table(pa.table({"image": [b"x"], "label": ["cat"]}), tmp_path / "train.parquet")
    assert "labels are whole numbers" in problem(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 cut short")
    assert f"cannot read {tmp_path}" in problem(tmp_path)
    write(tmp_path / "train.parquet", list(range(30)),
          image=[encoded(n) if n != 7 else b"damaged" for n in range(30)])
    resolved = datasets.resolve(spec(tmp_path, holdout=False))
    with pytest.raises(datasets.DatasetError, match=r"row 7 \(not an image\)"):
        datasets.build(resolved, "train", tmp_path)
