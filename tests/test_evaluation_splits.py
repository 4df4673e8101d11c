"""Selection sees validation only, test labels are read once, bad features are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import evaluation_fixtures as fixtures
import numpy as np
import pytest

from harness.evaluation import evaluation, evaluations
from harness.evaluation.registry import register
from harness.evaluation.splits import Features, best

ROOT = Path(__file__).parents[1]
MISUSE = """
from harness.evaluation.splits import Features, best
def choose(data: Features) -> None:
    best([1, 2], lambda k, split: 0.0, data.validation)
    best([1, 2], lambda k, split: 0.0, data.test)
"""


def test_choosing_on_the_test_split_is_a_type_error_at_run_time() -> None:
    data = fixtures.problem()
    assert best([3, 1, 2], lambda k, split: float(k % 3), data.validation) == (2, 2.0)
    for split in (data.test, data.train):
        with pytest.raises(TypeError, match="selection takes a ValidationSplit, got T"):
            best([1, 2], lambda k, split: 0.0, split)  # type: ignore[arg-type]  # what is tested


@pytest.mark.slow
def test_choosing_on_the_test_split_is_a_type_error_for_mypy(tmp_path: Path) -> None:
    file = tmp_path / "misuse.py"
    file.write_text(MISUSE)
    command = [sys.executable, "-m", "mypy", str(file), "--follow-imports=silent"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in found.stdout.splitlines() if "error:" in line and "misuse" in line]
    assert len(errors) == 1 and "misuse.py:5" in errors[0] and "ValidationSplit" in errors[0]


@pytest.mark.parametrize("name", ["knn", "linear"])
def test_an_evaluation_measures_its_test_split_once(name: str) -> None:
    data = fixtures.problem()
    chosen = evaluation(name)
    chosen.run(data, chosen.configure({}), None)
    with pytest.raises(RuntimeError, match="read already"):
        chosen.run(data, chosen.configure({}), None)


def test_evaluations_are_listed_without_torch() -> None:
    assert {"knn", "knn_balanced", "linear", "linear_images", "linear_sgd"} <= set(evaluations())
    assert all(e.summary and e.options and e.revision for e in evaluations().values())
    code = "import sys, harness.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_unknown_names_and_options_list_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="'knm'. Did you mean 'knn'.*linear"):
        evaluation("knm")
    with pytest.raises(ValueError, match="'knn'.*'K'.*sigma"):
        evaluation("knn").configure({"K": 5})
    with pytest.raises(AssertionError, match="two evaluations"):
        register("knn", config=object, revision=1)(evaluation("knn").run)


def test_features_load_and_bad_ones_are_named(tmp_path: Path) -> None:
    data = Features.load(fixtures.write(tmp_path))
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 40, 40)
    assert data.num_classes == 4
    labels = np.load(tmp_path / "test_labels.npy")
    np.save(tmp_path / "test_labels.npy", np.where(labels == 2, 1, labels))
    with pytest.raises(ValueError, match=r"split 'test' has no image of class 2 \(1 of 4"):
        Features.load(tmp_path)
    np.save(tmp_path / "test_labels.npy", np.full(40, -1))
    with pytest.raises(ValueError, match="without a label"):
        Features.load(tmp_path)
    np.save(tmp_path / "test_labels.npy", labels[:3])
    with pytest.raises(ValueError, match="40 images and 3 labels"):
        Features.load(tmp_path)
    features = np.load(tmp_path / "train.npy")
    features[3, 1] = np.nan
    np.save(tmp_path / "train.npy", features)
    with pytest.raises(ValueError, match="'train': the features of 1 of 40 images are not finite"):
        Features.load(tmp_path)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="have one class"):
        Features.load(fixtures.write(tmp_path, num_classes=1))
