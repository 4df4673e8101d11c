"""`python -m harness.data`: prints a card, draws examples, and says what is wrong in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import data
from harness.errors import Problems, UserError


def test_a_card_is_printed_drawn_and_written(tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["dataset=photos", "size=190", "long_tail.imbalance=20",
                 "data.controls.correlation.repeats=4", f"png={tmp_path / 'x' / 'card.png'}",
                 f"json={tmp_path / 'card.json'}"]
    assert data.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "correlation(repeats=4)" in printed and "astronaut" in printed
    assert "0 exact, 0 near copies of 1368" in printed
    told = json.loads((tmp_path / "card.json").read_text())
    assert told["images"]["train"] == 190
    picture = np.asarray(Image.open(tmp_path / "x" / "card.png"))
    assert picture.shape == (19 * data.CELL, data.LABEL + data.BAR + 16 * data.CELL, 3)
    first = picture[:data.CELL, data.LABEL + data.BAR:]
    assert (first != 255).any(axis=2).mean() > 0.8  # the head class fills its row


def test_a_small_npz_with_many_classes(tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.arange(300) % 60
    pixels = np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    assert data.main(["dataset=npz", f"path={tmp_path / 'a.npz'}", f"results={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "12 classes more" in printed and "test in train" in printed
    assert len(list((tmp_path / "cards").glob("npz-*.png"))) == 1


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "which dataset"), (["dataset"], "has no value"), (["datset=photos"], "Did you mean"),
    (["dataset=photos", "long_tail.imbalence=3"], "Did you mean 'imbalance'"),
    (["dataset=photo"], "Did you mean 'photos'"),
    (["dataset=photos", "size=100000"], "reduce size by"),
    (["dataset=cifar10", "path=nowhere"], "data.options.download=true"),
])
def test_mistakes_are_user_errors(arguments: list[str], message: str) -> None:
    with pytest.raises((UserError, Problems), match=message):
        data.main(arguments)


def test_the_door_exits_with_2_and_imports_no_torch() -> None:
    code = ("import sys; sys.argv = ['data', 'dataset=photo']\n"
            "from harness import data\n"
            "try: data.run()\n"
            "except SystemExit as error: assert error.code == 2, error.code\n"
            "assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=Path(__file__).parent.parent, check=True)
    assert done.stderr.startswith("error: unknown source") and done.stderr.count("\n") == 1
