"""Fine-tuning and few labels: learning, choosing on validation only, stopping, equal bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import ROOT, contents, sweep

import datasets
from harness import execute
from harness.evaluation import evaluation
from harness.evaluation.semi import Config as Semi
from harness.evaluation.semi import labelled_part
from harness.evaluation.splits import Features, TestSplit, TrainSplit, ValidationSplit
from harness.evaluation.subject import Subject
from harness.evaluation.tuning import _Tuner, classification_loss, merged, settings_of, tune
from harness.evaluation.tuning_config import Tuning
from harness.training.loop import Interrupted
from methods.options import resolve
from methods.registry import named

BACKBONE = {"name": "resnet_tiny", "width": 8, "stages": 2}
FEW = Tuning(steps=6, batch_size=16, lrs=(0.01, 0.1), weight_decays=(0.0,), crop_min=0.5,
             retrain=False)
MISUSE = """
from harness.evaluation.splits import Features, best
from harness.evaluation.subject import Subject
from harness.evaluation.tuning import _Tuner
from harness.evaluation.tuning_config import Tuning
def choose(subject: Subject, data: Features) -> None:
    tuner = _Tuner(subject, data, Tuning())
    best([0], tuner.score, data.validation)
    best([0], tuner.score, data.test)
    tuner.score(0, data.test)
    tuner.score(0, subject.splits().test)
    tuner.fit_again(0, data.test)
"""


class Bench:
    """An untrained MoCLR network as the subject of evaluations."""

    def __init__(self, root: Path) -> None:
        self.root = root
        spec = {"source": "photos", "image_size": 32, "size": 95, "seed": 0}
        self.data = {k: v for k, v in datasets.resolve(spec).items() if k != "class_counts"}
        self.encoder = root / "encoder"
        self.encoder.mkdir()
        method = named("moclr")
        training = {"epochs": 0.1, "batch_size": 32, "precision": "fp32"}
        params = {"method": "moclr", "options": resolve(method.options, {"hidden_dim": 48}, "")[0],
                  "backbone": BACKBONE, "seed": 0, "image_size": 32, "data": self.data,
                  "views": {}, "training": training}
        self._do("pretrain", "encoder", params, {}, lambda: False)

    def _do(self, kind: str, name: str, params: dict[str, Any], inputs: dict[str, Path],
            stop: Callable[[], bool]) -> dict[str, Any]:
        stage = {"kind": kind, "key": name, "params": params}
        work = self.root / name
        work.mkdir(exist_ok=True)
        found = execute.RUN[kind](stage, inputs, work, self.context(name, stop))
        (work / "stage.json").write_text(json.dumps(stage))
        return found

    def context(self, name: str, stop: Callable[[], bool] = lambda: False) -> execute.Context:
        return execute.Context("cpu", {}, (), lambda facts: None, 60.0,
                               self.root / "checkpoints" / name, 1, stop)

    def evaluate(self, name: str, evaluation_: str, options: dict[str, Any],
                 stop: Callable[[], bool] = lambda: False, **changes: Any) -> dict[str, Any]:
        params = {"evaluation": evaluation_, "options": options, "data": self.data, "threads": 1,
                  "precision": "fp32", "seed": 0} | changes
        return self._do("evaluate", name, params, {"encoder": self.encoder}, stop)

    def subject(self, name: str = "subject", **changes: Any) -> Subject:
        stage = {"key": name, "params": {"data": self.data, "precision": "fp32", "seed": 0}}
        return replace(execute._subject(stage, self.encoder, self.root, self.context(name)),
                       **changes)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    before = torch.get_num_threads()
    yield Bench(tmp_path_factory.mktemp("bench"))
    torch.set_num_threads(before)


def images(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Dark and bright squares: two classes that a few steps tell apart."""
    labels = torch.arange(n) % 2
    noise = torch.randint(0, 60, (n, 32, 32, 3), generator=torch.Generator().manual_seed(seed))
    return (noise + 150 * labels[:, None, None, None]).to(torch.uint8), labels


def easy(n: int = 32) -> Features:
    return Features(TrainSplit(*images(n, 0)), ValidationSplit(*images(n, 1)),
                    TestSplit(*images(n, 2)), 2)


OPTIONS = {"steps": 6, "batch_size": 16, "lrs": [0.01, 0.1], "weight_decays": [0.0],
           "retrain": False}


def test_it_learns_and_chooses_on_validation(bench: Bench) -> None:
    config = replace(FEW, steps=25, lrs=(1e38, 0.1))
    found = tune(bench.subject("easy"), easy(), config, None)
    assert found["top1"] > 0.9 and found["n_test"] == 32
    assert found["selected"]["lr"] == 0.1 and found["selected"]["validation_top1"] > 0.9


def test_the_head_starts_at_zero_and_equal_settings_are_equal(bench: Bench) -> None:
    found = [tune(bench.subject(name), easy(), FEW, None) for name in ("a", "b")]
    assert found[0] == found[1]


def test_every_part_of_a_run_is_taken_up_again(bench: Bench) -> None:
    """Stopped at every third step, through both settings and the last training."""
    options = {**OPTIONS, "retrain": True}
    whole = bench.evaluate("whole", "finetune", options)
    calls, runs = 0, 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls % 3 == 0

    while True:
        runs += 1
        try:
            parts = bench.evaluate("parts", "finetune", options, stop)
            break
        except Interrupted:
            assert runs < 12
    assert runs == 7 and parts == whole, "18 steps, stopped after each third"
    assert whole["top1"] <= whole["top5"] < 1, "of 19 classes"


def test_the_test_split_is_read_once_and_never_chosen_on(bench: Bench) -> None:
    data = easy()
    tune(bench.subject("once"), data, FEW, None)
    with pytest.raises(RuntimeError, match="read already"):
        tune(bench.subject("twice"), data, FEW, None)
    swapped = Features(data.train, TestSplit(*images(8, 3)), data.test, 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="selection takes a ValidationSplit"):
        tune(bench.subject("swapped"), swapped, FEW, None)


@pytest.mark.slow
def test_choosing_on_the_test_split_is_a_type_error_here_too(tmp_path: Path) -> None:
    file = tmp_path / "misuse.py"
    file.write_text(MISUSE)
    command = [sys.executable, "-m", "mypy", str(file), "--follow-imports=silent"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in found.stdout.splitlines() if "error:" in line and "misuse" in line]
    wrong = {int(line.split(":")[1]) for line in lines}
    assert wrong == {9, 10, 11, 12}, found.stdout


def test_few_labels_are_balanced_and_follow_the_seed(bench: Bench) -> None:
    whole = bench.subject().splits()
    part = labelled_part(bench.subject(), Semi(shots=2))
    assert torch.bincount(part.train.labels).tolist() == [2] * 19
    assert len(part.validation) == len(whole.validation) and len(part.test) == len(whole.test)
    again, other = (labelled_part(bench.subject(seed=seed), Semi(shots=2)) for seed in (0, 1))
    assert torch.equal(again.train.features, part.train.features)
    assert not torch.equal(other.train.features, part.train.features)
    assert len(labelled_part(bench.subject(), Semi(share=1.0)).train) == len(whole.train)
    with pytest.raises(datasets.DatasetError, match="50 shots"):
        labelled_part(bench.subject(), Semi(shots=50))


def test_few_labels_from_the_pooled_features_and_from_the_head(bench: Bench) -> None:
    options = {"share": 0.4, "epochs": 1.0, "batch_size": 16, "lrs": [0.05]}
    pooled = bench.evaluate("semi", "semi", options)
    head = bench.evaluate("semi_head", "semi", options, layer="hidden")
    assert pooled["selected"]["n_train"] == head["selected"]["n_train"] == 38
    assert pooled != head and 0 < pooled["top5"] < 1
    pooled_net, head_net = (bench.subject().network(layer) for layer in ("pooled", "hidden"))
    assert pooled_net.feature_dim == 16 and head_net.feature_dim == 48
    assert head_net(torch.zeros(2, 3, 32, 32)).shape == (2, 48)
    with pytest.raises(ValueError, match="unknown layer"):
        bench.subject().network("last")


def test_progress_says_what_the_sweep_shows(bench: Bench) -> None:
    told: list[dict[str, Any]] = []
    context = replace(bench.context("told"), progress=told.append)
    tuner = _Tuner(bench.subject("told", context=context), easy(), FEW)
    tuner._reported = 0.0
    assert tuner.score(0, easy().validation) > 0
    assert told and {"step", "steps", "loss", "images_per_second", "eta_seconds"} == set(told[0])
    assert told[0]["steps"] == 12 and told[0]["images_per_second"] > 0


def test_lars_and_training_again_on_both_splits(bench: Bench) -> None:
    config = replace(FEW, optimizer="lars_simclr", lrs=(0.16,), retrain=True)
    assert tune(bench.subject("lars"), easy(), config, None)["n_test"] == 32
    both = merged(TrainSplit(*images(4, 0)), ValidationSplit(*images(6, 1)))
    assert len(both) == 10 and len(both.features) == 10


def test_weight_decay_is_divided_by_the_rate_where_the_protocol_does() -> None:
    config = Tuning(lrs=(0.1, 0.01), weight_decays=(0.0, 1e-3))
    found = [(s.lr, s.weight_decay) for s in settings_of(config)]
    assert [lr for lr, _ in found] == [0.1, 0.1, 0.01, 0.01]
    assert [decay for _, decay in found] == pytest.approx([0, 0.01, 0, 0.1])
    plain = settings_of(replace(config, decay_over_lr=False))
    assert [s.weight_decay for s in plain] == [0.0, 1e-3, 0.0, 1e-3]


def test_images_of_several_classes(bench: Bench) -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    signs = torch.tensor([[1, -1], [0, 1]])
    by_hand = np.mean([np.log1p(np.exp(-2)), np.log1p(np.exp(-1)), np.log1p(np.exp(-3))])
    assert float(classification_loss(logits, signs, "map11")) == pytest.approx(by_hand, rel=1e-5)
    parts = [images(24, seed) for seed in range(3)]
    x = [(pixels, torch.stack([2 * y - 1, 1 - 2 * y], 1)) for pixels, y in parts]
    data = Features(TrainSplit(*x[0]), ValidationSplit(*x[1]), TestSplit(*x[2]), 2, "map11")
    found = tune(bench.subject("several"), data, replace(FEW, steps=25, lrs=(0.1,)), None)
    assert found["map11"] > 0.9 and "top1" not in found
    assert found["selected"]["validation_map11"] > 0.9


def test_what_cannot_be_tuned_is_said(bench: Bench) -> None:
    with pytest.raises(FloatingPointError, match="not finite in any setting"):
        tune(bench.subject("diverges"), easy(), replace(FEW, lrs=(1e38,)), None)
    one = Features(TrainSplit(*images(1, 0)), ValidationSplit(*images(4, 1)),
                   TestSplit(*images(4, 2)), 2)
    with pytest.raises(ValueError, match="needs 2 images"):
        tune(bench.subject("one"), one, FEW, None)
    chosen = evaluation("finetune")
    with pytest.raises(ValueError, match="lrs"):
        chosen.configure({"lrs": [0.0]})


def test_alignment_of_a_network(bench: Bench) -> None:
    first, second = (bench.evaluate(name, "alignment", {"images": 40}) for name in ("al1", "al2"))
    assert first == second and 0 < first["alignment"] < 4 and -4 <= first["uniformity"] <= 0
    hard = bench.evaluate("al3", "alignment", {"images": 40, "view": "supervised"})
    assert hard["alignment"] != first["alignment"]


@pytest.mark.slow
def test_the_grid_of_every_protocol_is_the_same_with_one_and_two_workers(tmp_path: Path) -> None:
    base = ("grid=evaluations", "scale=smoke", "grid.methods=[simclr]", "grid.seeds=[0]")
    for workers in (1, 2):
        done = sweep(tmp_path / str(workers), f"launcher.workers={workers}", base=base)
        assert done.returncode == 0, done.stderr
    one, two = (contents(tmp_path / str(workers)) for workers in (1, 2))
    assert len(one) > 20 and one == two
    assert (tmp_path / "1" / "evaluations-smoke" / "report.html").exists()
