"""GTSRB through a plain .npz: video tracks stay whole, and the classes are as they were filmed.

Reads the development copy in $CURATION_GAP_SHARED/data, else ../shared/data; skips without it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets
from datasets.card import card

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("CURATION_GAP_SHARED", ROOT.parent / "shared")) / "data" / "gtsrb32"


def tiles(path: Path, count: int) -> np.ndarray:
    """The 32x32 tiles of a contact sheet, row by row."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    rows, columns = sheet.shape[0] // 32, sheet.shape[1] // 32
    cut = sheet.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 1, 3, 4)
    return cut.reshape(-1, 32, 32, 3)[:count]


@pytest.fixture(scope="module")
def gtsrb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (DATA / "gtsrb32_subset_meta.npz").is_file():
        pytest.skip(f"no GTSRB subset in {DATA}; set CURATION_GAP_SHARED")
    with np.load(DATA / "gtsrb32_subset_meta.npz", allow_pickle=False) as meta:
        train, test, track = meta["y_train"], meta["y_test"], meta["track_train"]
    path = tmp_path_factory.mktemp("gtsrb") / "gtsrb.npz"
    np.savez(path, x_train=tiles(DATA / "gtsrb32_train_subset_lossless.webp", len(train)),
             y_train=train, y_test=test,
             x_test=tiles(DATA / "gtsrb32_test_subset_lossless.webp", len(test)),
             # GTSRB counts tracks from 0 in every class
             track_train=train.astype(np.int64) * 1000 + track)
    return path


def test_tracks_are_never_divided_and_the_tail_is_natural(gtsrb: Path) -> None:
    spec = {"source": "npz", "path": str(gtsrb)}
    resolved = datasets.resolve(spec)
    train, held, test = (datasets.build(resolved, split, gtsrb) for split in datasets.SPLITS)
    tracks = set(train.origin) | set(held.origin)
    assert len(tracks) == 170 and len(train) + len(held) == 5100 and len(test) == 1250
    assert len(held) > 0 and not set(train.origin) & set(held.origin)
    assert len(set(train.labels)) == 43
    told = card(resolved, gtsrb)
    assert told["imbalance"] == 9 and 0.4 < told["gini"] < 0.5
    assert told["origins"] == len(set(train.origin))
    assert told["overlap"]["test"]["exact"] == 0


def test_a_natural_subsample_keeps_the_skew_and_a_power_takes_it_away(gtsrb: Path) -> None:
    spec = {"source": "npz", "path": str(gtsrb), "size": 430}
    skew = {}
    for alpha in (0.0, 0.5, 1.0):
        controls = {"size": {"profile": "natural", "alpha": alpha}}
        resolved = datasets.resolve({**spec, "controls": controls})
        assert resolved["images"] == 430
        skew[alpha] = max(resolved["class_counts"]) / min(resolved["class_counts"])
    assert skew[0.0] == 1 and skew[0.0] < skew[0.5] < skew[1.0]
