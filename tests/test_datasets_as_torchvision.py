"""The layouts and labels are torchvision's: its own loaders read the same copies alike."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_layouts import build

import datasets
from datasets.sources import SOURCES

CASES = [  # source, loader, part, its arguments
    ("food101", "Food101", "train", {"split": "train"}),
    ("food101", "Food101", "test", {"split": "test"}),
    ("dtd", "DTD", "validation", {"split": "val"}),
    ("pets", "OxfordIIITPet", "train", {"split": "trainval"}),
    ("aircraft", "FGVCAircraft", "validation", {"split": "val"}),
    ("flowers", "Flowers102", "test", {"split": "test"}),
    ("cars", "StanfordCars", "train", {"split": "train"}),
    ("cars", "StanfordCars", "test", {"split": "test"}),
    ("gtsrb", "GTSRB", "train", {"split": "train"}),
    ("gtsrb", "GTSRB", "test", {"split": "test"}),
]


@pytest.fixture(scope="module")
def loaders() -> types.ModuleType:
    import torchvision.datasets

    module: types.ModuleType = torchvision.datasets
    return module


@pytest.mark.parametrize(("name", "loader", "part", "arguments"), CASES)
def test_torchvision_reads_the_same(
        tmp_path: Path, loaders: types.ModuleType, monkeypatch: pytest.MonkeyPatch, name: str,
        loader: str, part: str, arguments: dict[str, str]) -> None:
    build(name, tmp_path)
    # the published checksums are not those of a copy
    monkeypatch.setattr(loaders.Flowers102, "_check_integrity", lambda self: True)
    theirs = getattr(loaders, loader)(str(tmp_path), **arguments)
    source: Any = SOURCES[name](path=tmp_path, image_size=10, partial=True, holdout=False)
    labels, _ = source.known(part)
    pixels = source.decode(part, np.arange(len(labels)))
    assert len(theirs) == len(labels) > 0

    def pairs(images: Any, classes: Any) -> list[tuple[int, bytes]]:
        return sorted((int(c), bytes(np.asarray(image)[4, 4])) for image, c in
                      zip(images, classes, strict=True))

    rows = list(_rows(theirs))
    assert pairs([image for image, _ in rows], [c for _, c in rows]) == pairs(pixels, labels)


def _rows(theirs: Any) -> Iterator[tuple[Any, int]]:
    for number in range(len(theirs)):
        image, label = theirs[number]
        yield image.convert("RGB"), label


def test_voc_names_and_stl10s_parts_are_torchvisions(
        tmp_path: Path, loaders: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    source: Any = SOURCES["stl10_unlabelled"](path=tmp_path, image_size=8)
    for name in source.files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    asked = []

    def opened(root: str, split: str, download: bool) -> types.SimpleNamespace:
        assert root == str(tmp_path) and not download
        asked.append(split)
        return types.SimpleNamespace(data=np.zeros((100_000, 3, 2, 2), np.uint8))

    assert "unlabeled" in loaders.STL10.splits and "train+unlabeled" in loaders.STL10.splits
    monkeypatch.setattr(loaders, "STL10", opened)
    resolved = datasets.resolve({"source": "stl10_unlabelled", "path": str(tmp_path), "size": 40,
                                 "image_size": 8})
    assert resolved["images"] == resolved["unlabelled"] == 40
    train = datasets.build(resolved, "train", tmp_path)
    assert train.pixels.shape == (40, 8, 8, 3) and asked == ["unlabeled"]
    assert len(datasets.build(resolved, "test", tmp_path)) == 0
    whole = SOURCES["stl10_unlabelled"](path=tmp_path, with_labelled=True)  # type: ignore[call-arg]
    assert whole.counts("train").tolist() == [105_000]
