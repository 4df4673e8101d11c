"""The four stage functions on the embedded images: artifacts, metrics, determinism, DnC's parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import datasets
from harness import execute
from methods.options import resolve
from methods.registry import named

TRAINING = {"epochs": 2.0, "batch_size": 32, "optimizer": "sgd", "lr": 0.02, "momentum": 0.9,
            "weight_decay": 5e-4, "warmup_epochs": 0.0, "schedule": "cosine", "precision": "bf16",
            "threads": 1}
BACKBONE = {"name": "resnet_tiny", "width": 8, "stages": 2}


class Lab:
    """Runs stages in a folder, each under its name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        spec = {"source": "photos", "image_size": 32, "size": 76, "seed": 0}
        self.data = {key: value for key, value in datasets.resolve(spec).items()
                     if key != "class_counts"}

    def run(self, name: str, kind: str, params: dict[str, Any],
            inputs: dict[str, Path] | None = None) -> tuple[Path, dict[str, Any]]:
        """Do one stage; its artifact and its metrics."""
        work = self.root / name
        work.mkdir()
        stage = {"kind": kind, "key": name, "params": params}
        context = execute.Context("cpu", {}, (), lambda facts: None, 60.0,
                                  self.root / "checkpoints" / name, 1, lambda: False)
        metrics = execute.RUN[kind](stage, inputs or {}, work, context)
        (work / "stage.json").write_text(json.dumps(stage))
        return work, metrics

    def pretrain(self, name: str, method: str, inputs: dict[str, Path] | None = None,
                 options: dict[str, Any] | None = None,
                 **changes: Any) -> tuple[Path, dict[str, Any]]:
        """Pretrain a method on the embedded images."""
        spec = named(method)
        resolved, problems = resolve(spec.options, options or {}, method)
        assert not problems
        params: dict[str, Any] = {"method": method, "options": resolved, "backbone": BACKBONE,
                                  "seed": 0, "image_size": 32}
        if spec.trainable:
            params |= {"data": self.data, "views": {"blur_p": 0.0}, "training": TRAINING}
        return self.run(name, "pretrain", params | changes, inputs)

    def cluster(self, name: str, base: Path | None, k: int = 3) -> tuple[Path, dict[str, Any]]:
        """Divide the embedded images by the base's features, or at random without a base."""
        params = {"k": k, "by": "features" if base else "random", "seed": 0, "data": self.data,
                  "threads": 1, "layer": "hidden", "precision": "bf16"}
        return self.run(name, "cluster", params, {"base": base} if base else {})

    def features(self, name: str, encoder: Path) -> tuple[Path, dict[str, Any]]:
        """Embed the labelled images."""
        params = {"data": self.data, "precision": "bf16", "threads": 1}
        return self.run(name, "features", params, {"encoder": encoder})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    before = torch.get_num_threads()
    yield Lab(tmp_path_factory.mktemp("lab"))
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(lab: Lab) -> Path:
    return lab.pretrain("base", "moclr")[0]


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".npy"))
    assert files
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_pretraining_leaves_its_artifact_and_equal_runs_equal_bytes(lab: Lab, base: Path) -> None:
    again, metrics = lab.pretrain("again", "moclr")
    assert _digests(base) == _digests(again)
    assert set(_digests(base)) == {"encoder.safetensors", "method.safetensors", "losses.npy"}
    assert metrics["steps"] == 5 and metrics["images_seen"] == 160, "2 passes over 76, batch 32"
    assert metrics["images_per_second"] > 0 and metrics["peak_memory_mb"] > 50
    assert np.load(base / "losses.npy").shape == (5,)
    other, _ = lab.pretrain("other", "moclr", seed=[0, 1])
    assert _digests(other) != _digests(base)


@pytest.mark.parametrize("method", ["simclr", "mocov2", "byol", "supervised"])
def test_every_method_trains_and_comes_back_from_its_artifact(lab: Lab, method: str) -> None:
    folder, metrics = lab.pretrain(method, method)
    assert np.isfinite(metrics["final_loss"])
    context = execute.Context("cpu", {}, (), lambda facts: None, 1.0, folder, 1, lambda: False)
    restored = execute.restore(folder, context).eval()
    x = torch.randn(4, 3, 32, 32)
    assert restored.embed(x, "pooled").shape == (4, 16)
    encoder = execute.load_file(folder / "encoder.safetensors")
    assert encoder and all(torch.equal(value, restored.encoder.state_dict()[name])
                           for name, value in encoder.items())


@pytest.mark.parametrize(("method", "dim"), [("random_init", 16), ("raw_pixels", 3072)])
def test_references_are_committed_untrained_and_evaluated(lab: Lab, method: str, dim: int) -> None:
    folder, metrics = lab.pretrain(method, method)
    assert metrics["steps"] == metrics["images_seen"] == 0 and metrics["final_loss"] is None
    features, counts = lab.features(f"{method}_features", folder)
    assert counts["dim"] == dim and counts["num_classes"] == 19
    assert np.load(features / "test.npy").shape == (counts["n_test"], dim)
    assert np.load(features / "test.npy").dtype == np.float32
    for name in ("knn", "linear"):
        params = {"evaluation": name, "options": {}, "class_counts": list(range(19, 0, -1))}
        _, metrics = lab.run(f"{method}_{name}", "evaluate", params, {"features": features})
        assert metrics["n_test"] == counts["n_test"] and len(metrics["per_class"]) == 19
        assert 1 / 19 < metrics["balanced"] <= 1 and 0 <= metrics["few"] <= 1
        json.dumps(metrics, allow_nan=False)


def test_dnc_divides_trains_experts_and_distils(lab: Lab, base: Path) -> None:
    groups, metrics = lab.cluster("groups", base)
    assignment = np.load(groups / "assignment.npy")
    assert assignment.shape == (76,) and assignment.dtype == np.int64
    assert metrics["sizes"] == np.bincount(assignment).tolist() and min(metrics["sizes"]) > 0
    experts = []
    for i, size in enumerate(metrics["sizes"]):
        expert, seen = lab.pretrain(f"expert{i}", "moclr", {"groups": groups}, subset=i)
        info = json.loads((expert / "info.json").read_text())
        assert info["num_images"] == size and seen["images_seen"] == pytest.approx(2 * size, abs=32)
        experts.append(expert)
    teachers = {f"teacher{i}": folder for i, folder in enumerate([base, *experts])}
    student, metrics = lab.pretrain("student", "distil", {"groups": groups, **teachers},
                                    training={**TRAINING, "lr": 1e-3})
    info = json.loads((student / "info.json").read_text())
    assert info["num_groups"] == 3 and len(info["teacher_dims"]) == 4
    assert np.isfinite(metrics["final_loss"])


def test_random_division_needs_no_base(lab: Lab) -> None:
    folder, metrics = lab.cluster("dealt", None)
    assert metrics["sizes"] == [26, 25, 25]
    assert np.load(folder / "centroids.npy").shape == (3, 0)


def test_what_cannot_be_trained_is_named(lab: Lab, base: Path) -> None:
    groups, _ = lab.cluster("lonely", None, k=76)
    with pytest.raises(ValueError, match="group 5 of 76 has 1 images.*choose fewer groups"):
        lab.pretrain("one", "moclr", {"groups": groups}, subset=5)
    with pytest.raises(FloatingPointError, match="lower lr"):
        lab.pretrain("diverged", "simclr", training={**TRAINING, "lr": 1e18, "precision": "fp32"})
    np.save(groups / "assignment.npy", np.zeros(5, np.int64))
    with pytest.raises(ValueError, match="has 5 images, the data set 76"):
        lab.pretrain("mismatch", "moclr", {"groups": groups}, subset=0)
