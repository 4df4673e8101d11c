"""Photographs that stay whole: crops reach their edges, tests see the papers' centre crop."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_fixtures as fixtures
from PIL import Image
from source_layouts import WNIDS

import datasets
from datasets import packing, recipes, views
from datasets.photographs import Photographs
from datasets.sources.imagenet import ImageNet
from datasets.views_legacy import eval_preprocess
from harness import execute
from harness.evaluation import evaluation
from harness.evaluation.photographs import Whole, joined
from harness.training import feed
from harness.training.loop import Interrupted, Job, Loop
from methods.options import resolve
from methods.registry import named

SIDE = 16
RED, GREY = (250, 0, 0), (60, 60, 60)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's folders with wide photographs of many sizes; only their left ends are red."""
    folder, rng = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for part, each in (("train", 12), ("val", 2)):
        for wnid in WNIDS:
            (folder / part / wnid).mkdir(parents=True)
            for number in range(each):
                height, width = int(rng.integers(12, 18)), int(rng.integers(36, 50))
                pixels = np.full((height, width, 3), GREY, np.uint8)
                pixels[:, :8] = RED
                pixels[::3, 16:, 2] = rng.integers(0, 255, (-(-height // 3), width - 16))
                file = folder / part / wnid / f"{wnid}_{number}.JPEG"
                Image.fromarray(pixels).save(file, quality=95, subsampling=0)
    return folder


def spec_of(root: Path, **options: Any) -> dict[str, Any]:
    return {"source": "imagenet", "path": str(root), "image_size": SIDE,
            "options": {"partial": True, **options}}


def photographs(root: Path, split: Any = "train") -> Photographs:
    resolved = datasets.resolve(spec_of(root, whole=True))
    found = datasets.build(resolved, split, root).pixels
    assert isinstance(found, Photographs)
    return found


def reddest(images: torch.Tensor) -> float:
    """The largest mean of red over blue of an image, in standard deviations."""
    return float((images[:, 0] - images[:, 2]).mean((1, 2)).max())


def test_false_is_in_no_key_and_whole_is_another_data_set(root: Path) -> None:
    before, said, whole = (datasets.resolve(spec_of(root, **options))
                           for options in ({}, {"whole": False}, {"whole": True}))
    assert before == said and "whole" not in before["options"]
    assert whole["options"]["whole"] and whole["fingerprint"] != before["fingerprint"]
    assert (whole["images"], whole["class_counts"]) == (before["images"], before["class_counts"])


def test_the_left_end_of_a_wide_photograph_comes_into_crops(root: Path) -> None:
    view = recipes.View(crop_min=0.08, flip=0.5)
    squares = datasets.build(datasets.resolve(spec_of(root)), "train", root).pixels
    seen = []
    for pixels in (squares, photographs(root)):
        drawn = feed.feed_of(pixels, "cpu").batches(32, 0).next()
        seen.append(reddest(views.apply(drawn.images, view, torch.Generator().manual_seed(0),
                                        SIDE)))
    assert seen[0] < 1 < seen[1]


def test_what_is_cropped_from_is_the_file(root: Path) -> None:
    found = photographs(root)
    for image, name in zip(found.whole(np.array([7, 2])), found.files[[7, 2]], strict=True):
        with Image.open(root / name.decode()) as file:
            wide = np.asarray(file.convert("RGB"))
        limit = round(SIDE * 16 / 7)
        assert max(image.shape) == min(limit, max(wide.shape)) < max(wide.shape) or (
            image == wide).all()
        assert abs(image.shape[1] / image.shape[0] - wide.shape[1] / wide.shape[0]) < 0.15


def test_tests_see_the_golden_crop_of_the_whole_photograph(root: Path) -> None:
    found = photographs(root, "test")
    assert len(found) == 10 and np.asarray(found).shape == (10, SIDE, SIDE, 3)
    for pixels, name in zip(found[:], found.files, strict=True):
        with Image.open(root / name.decode()) as file:
            wide = torch.from_numpy(np.array(file.convert("RGB")))
        golden = eval_preprocess(wide[None], SIDE)[0].permute(1, 2, 0) * 255
        assert np.abs(pixels - golden.numpy()).max() <= 0.5 + 1e-3
        plain = views.plain(torch.from_numpy(pixels[None]), SIDE)  # evaluations change no pixel
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (views.MEAN, views.STD))
        torch.testing.assert_close((plain[0] * std + mean) * 255,
                                   torch.from_numpy(pixels).permute(2, 0, 1).float())
    assert np.array_equal(found[np.array([4, 1])], np.stack([found[4], found[1]]))


def whole_job(root: Path, **training: Any) -> Job:
    job = fixtures.job(60, **{"epochs": 3.0, **training})
    view = recipes.RECIPES["simclr_cifar"]
    made = [lambda x, generator: views.apply(x, view, generator, SIDE)] * 2
    found = photographs(root)
    return dataclasses.replace(job, feed=feed.feed_of(found, "cpu"), views=made,
                               labels=torch.zeros(len(found), dtype=torch.int64))


def test_a_stopped_run_goes_on_to_the_same_bytes(root: Path, tmp_path: Path) -> None:
    whole = Loop(whole_job(root), fixtures.surroundings(tmp_path / "whole"))
    whole.run()
    steps = iter(range(1, 100))
    with pytest.raises(Interrupted, match="step 3"):
        Loop(whole_job(root), fixtures.surroundings(
            tmp_path / "cut", stop=lambda: next(steps) >= 3)).run()
    again = Loop(whole_job(root), fixtures.surroundings(tmp_path / "cut"))
    again.run()
    first, second = fixtures.state(whole), fixtures.state(again)
    assert len(first) > 20 and first.keys() == second.keys()
    assert not [name for name in first if not torch.equal(first[name], second[name])]


def test_evaluations_choose_split_and_join_without_reading(
        root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageNet, "validation_share", 0.1)
    train, validation = (Whole(photographs(root, split)) for split in ("train", "validation"))
    rows = torch.tensor([5, 0, 9])
    both: Any = joined(train[rows], validation)
    assert both.shape == (3 + len(validation), SIDE, SIDE, 3) and len(validation)
    canvas = both[torch.arange(3)].to("cpu")
    alone = feed.canvas_of(train.photographs.whole(rows.numpy()))
    assert torch.equal(canvas.pixels, alone.pixels) and torch.equal(canvas.extent, alone.extent)
    assert torch.equal(torch.cat([*both.split(2)]), torch.from_numpy(both.photographs[:]))


def test_what_needs_squares_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    copies = {**spec_of(root, whole=True), "controls": {"correlation": {"repeats": 2}}, "size": 10}
    with pytest.raises(datasets.DatasetError, match="control 'correlation' makes images") as told:
        datasets.resolve(copies)
    assert len(told.value.problems) == 1
    datasets.resolve({**copies, "controls": {"long_tail": {"imbalance": 2}}})
    with pytest.raises(datasets.DatasetError, match="holds squares: leave out"):
        packing.pack(datasets.resolve(spec_of(root, whole=True)), tmp_path, root)
    assert not list(tmp_path.iterdir())


def test_a_bad_file_is_named(root: Path, tmp_path: Path) -> None:
    found = photographs(root)
    (tmp_path / "bad.JPEG").write_bytes(b"no image")
    broken = dataclasses.replace(found, files=np.array([b"bad.JPEG"]),
                                 source=dataclasses.replace(found.source, path=tmp_path))
    for read in (lambda: broken[:], lambda: broken.whole(np.array([0]))):
        with pytest.raises(datasets.DatasetError, match=r"bad.JPEG \(not an image\)"):
            read()


def stage(root: Path, folder: Path, kind: str, params: dict[str, Any], **inputs: Path) -> Any:
    """One stage on the photographs: its folder and its metrics."""
    work = folder / f"{kind}{len(list(folder.iterdir()))}"
    work.mkdir()
    context = execute.Context("cpu", {"imagenet": str(root)}, (), lambda facts: None, 60.0,
                              folder.parent / "checkpoints", 1, lambda: False)
    found = execute.RUN[kind]({"kind": kind, "key": work.name, "params": params}, inputs, work,
                              context)
    (work / "stage.json").write_text(json.dumps({"params": params}))
    return work, found


def test_stages_from_pretraining_to_scores(root: Path, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageNet, "validation_share", 0.1)
    folder = tmp_path / "stages"
    folder.mkdir()
    options, problems = resolve(named("simclr").options, {}, "simclr")
    assert not problems
    data = datasets.resolve(spec_of(root, whole=True))
    encoder, _ = stage(root, folder, "pretrain", {
        "method": "simclr", "options": options, "image_size": SIDE, "data": data, "seed": 0,
        "backbone": {"name": "resnet_tiny", "width": 8, "stages": 2}, "views": {},
        "training": {"epochs": 1.0, "batch_size": 16, "lr": 0.02}})
    groups, found = stage(root, folder, "cluster", {
        "k": 2, "seed": 0, "data": data, "layer": "pooled", "precision": "fp32"}, base=encoder)
    assert sum(found["sizes"]) == len(np.load(groups / "assignment.npy")) == data["images"]
    _, found = stage(root, folder, "features", {"data": data, "precision": "fp32"},
                     encoder=encoder)
    assert found["n_test"] == 10
    for name, given in (("linear_images", {"lrs": [0.1], "epochs": 1.0, "retrain": True}),
                        ("finetune", {"lrs": [0.1], "weight_decays": [0.0], "steps": 2,
                                      "batch_size": 16}),
                        ("semi", {"shots": 2, "lrs": [0.1], "steps": 2})):
        chosen = evaluation(name)
        filled, wrong = resolve(chosen.options, given, name)
        assert not wrong
        _, found = stage(root, folder, "evaluate", {
            "evaluation": name, "options": filled, "data": data, "seed": 0, "precision": "fp32"},
            encoder=encoder)
        assert found["n_test"] == 10 and 0 <= found["top1"] <= 1
