"""Sources that torchvision downloads: declared counts, absent data, other layouts. No network."""

from __future__ import annotations

import gzip
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datasets
from datasets.sources import SOURCES
from datasets.sources.fashion_mnist import read_idx


def problems(spec: dict[str, Any]) -> list[str]:
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.resolve(spec)
    return caught.value.problems


TORCHVISION = ["cifar10", "cifar100", "fashion_mnist", "stl10", "svhn"]


@pytest.mark.parametrize("name", TORCHVISION)
def test_absent_data_shows_the_tree_and_the_command(tmp_path: Path, name: str) -> None:
    line = problems({"source": name, "path": str(tmp_path)})[0]
    assert "expected" in line and "data.options.download=true" in line and str(tmp_path) in line
    # allowed to download: planning goes on without touching the network
    allowed = datasets.resolve({"source": name, "path": str(tmp_path), "size": 1000,
                                "options": {"download": True}})
    assert "download" not in allowed["options"] and allowed["images"] == 1000
    with pytest.raises(FileNotFoundError, match="download=true"):
        datasets.build(allowed, "train", tmp_path)


def test_cifar_through_a_stand_in_for_torchvision(tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    source: Any = SOURCES["cifar10"](path=tmp_path)
    for name in source.files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def opened(root: str, train: bool, download: bool) -> types.SimpleNamespace:
        assert not download and root == str(tmp_path)
        n = 50_000 if train else 10_000
        data = np.zeros((n, 32, 32, 3), np.uint8)
        data[:, 0, 0, 0] = np.arange(n) % 251
        return types.SimpleNamespace(data=data, targets=(np.arange(n) % 10).tolist())

    stand_in = types.SimpleNamespace(datasets=types.SimpleNamespace(CIFAR10=opened))
    monkeypatch.setitem(sys.modules, "torchvision", stand_in)
    spec = {"source": "cifar10", "path": str(tmp_path)}
    for split in datasets.SPLITS:
        pool = source.pool(split)
        assert (source.counts(split) == np.bincount(pool.labels)).all()
        assert (source.pixels(split, np.arange(50))[:, 0, 0, 0] == pool.ids[:50] % 251).all()
    built = datasets.build(datasets.resolve({**spec, "size": 100}), "train", tmp_path)
    assert np.bincount(built.labels).tolist() == [10] * 10


@pytest.mark.parametrize(("name", "kind", "side"), [("stl10", "STL10", 96), ("svhn", "SVHN", 32)])
def test_stl10_and_svhn_through_stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          name: str, kind: str, side: int) -> None:
    source: Any = SOURCES[name](path=tmp_path, image_size=4)
    declared = source.declared

    def opened(root: str, split: str, download: bool) -> types.SimpleNamespace:
        sizes = np.broadcast_to(declared[split], 10)
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), sizes))
        data = np.zeros((len(labels), 3, 4, 4), np.uint8)
        data[:, 2] = labels[:, None, None]
        return types.SimpleNamespace(data=data, labels=labels)

    stand_in = types.SimpleNamespace(datasets=types.SimpleNamespace(**{kind: opened}))
    monkeypatch.setitem(sys.modules, "torchvision", stand_in)
    assert SOURCES[name]().side() == side
    for split in datasets.SPLITS:
        pool = source.pool(split)
        assert (source.counts(split) == np.bincount(pool.labels)).all() and len(pool) > 0
        pixels = source.pixels(split, np.arange(20))
        assert pixels.shape == (20, 4, 4, 3) and (pixels[:, 0, 0, 2] == pool.labels[:20]).all()


def test_fashion_mnist_reads_both_layouts_and_refuses_damage(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in images.shape)
    plain, packed = tmp_path / "images", tmp_path / "images.gz"
    plain.write_bytes(header + images.tobytes())
    packed.write_bytes(gzip.compress(header + images.tobytes()))
    for path in (plain, packed):
        np.testing.assert_array_equal(read_idx(path), images)
    for raw in (header + images.tobytes()[:-1], b"", b"\0\0\x0b\1\0\0\0\0"):
        plain.write_bytes(raw)
        with pytest.raises(OSError, match="truncated or no IDX file"):
            read_idx(plain)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(OSError, match="is damaged"):
        read_idx(packed)
    source: Any = SOURCES["fashion_mnist"](path=tmp_path)
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    (tmp_path / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte").touch()
    assert source.missing() == ["t10k-images-idx3-ubyte",
                                "t10k-labels-idx1-ubyte"]
