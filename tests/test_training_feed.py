"""Feeds: memory, mapped files and shards give the loop the same images; streams resume exactly."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_fixtures as fixtures
from PIL import Image
from support import ROOT
from torch import Tensor

import datasets
from datasets import recipes, views
from datasets.rows import Rows
from datasets.streams import Stream
from harness import execute
from harness.training import checkpoint, feed
from harness.training.loop import Interrupted, Job, Loop
from methods.options import resolve
from methods.registry import named

IMAGES = 90


def write_shards(folder: Path) -> str:
    """Photographs' windows of different sizes in tar files of 20; how to name them."""
    folder.mkdir(parents=True, exist_ok=True)
    source = datasets.open_source({"source": "photos"})
    pixels = source.pixels("train", np.arange(0, 46_000, 500)[:IMAGES])
    rng = np.random.default_rng(0)
    for shard, start in enumerate(range(0, IMAGES, 20)):
        with tarfile.open(folder / f"s{shard}.tar", "w") as archive:
            for number in range(start, min(start + 20, IMAGES)):
                stream = io.BytesIO()
                size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)))
                Image.fromarray(pixels[number]).resize(size).save(stream, "jpeg")
                member = tarfile.TarInfo(f"{number:05d}.jpg")
                member.size = stream.tell()
                stream.seek(0)
                archive.addfile(member, stream)
    return str(folder / f"s{{0..{shard}}}.tar")


def spec_of(place: str) -> dict[str, Any]:
    """The shards as a dataset; lanes read windows of 5 images."""
    return {"source": "webdataset", "path": place, "image_size": 16,
            "options": {"images": IMAGES, "per_shard": 20, "window": 20, "lanes": 4}}


def streamed_job(place: str, **training: Any) -> Job:
    """The fixtures' run on shards, seen through SimCLR's views."""
    images = datasets.build(datasets.resolve(spec_of(place)), "train", place)
    job = fixtures.job(IMAGES, **{"epochs": 4.0, **training})
    view = recipes.RECIPES["simclr_cifar"]
    made = [lambda x, generator: views.apply(x, view, generator, 16)] * 2
    return dataclasses.replace(job, feed=feed.feed_of(images.pixels, "cpu"), views=made,
                               labels=feed.labels_of(images.labels, "cpu"))


def trained(folder: Path, job: Job, **changes: Any) -> dict[str, Tensor]:
    loop = Loop(job, fixtures.surroundings(folder, **changes))
    loop.run()
    return fixtures.state(loop)


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert len(a) > 20 and a.keys() == b.keys()
    assert not [name for name in a if not torch.equal(a[name], b[name])]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the shards are."""
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def mapped(tmp_path: Path) -> Any:
    """The fixtures' images in a mapped file."""
    job = fixtures.job()
    assert isinstance(job.feed, feed.Resident)
    np.save(tmp_path / "pixels.npy", job.feed.pixels.numpy())
    return np.load(tmp_path / "pixels.npy", mmap_mode="r")


def test_the_kind_of_feed_follows_from_the_images(mapped: Any, place: str) -> None:
    rows = Rows(mapped, np.arange(5))
    stream = datasets.build(datasets.resolve(spec_of(place)), "train", place).pixels
    kinds = [type(feed.feed_of(pixels, "cpu"))
             for pixels in (np.array(mapped), mapped, rows, stream)]
    assert kinds == [feed.Resident, feed.Mapped, feed.Mapped, feed.Streamed]
    assert feed.labels_of(np.broadcast_to(np.int64(0), (10**9,)), "cpu").shape == (10**9,)


@pytest.mark.parametrize("indirect", [False, True])
def test_a_mapped_file_trains_to_the_same_bits_and_resumes(
        indirect: bool, mapped: Any, tmp_path: Path) -> None:
    pixels = Rows(mapped, np.arange(40)) if indirect else mapped
    whole = trained(tmp_path / "whole", fixtures.job())
    steps = iter(range(1, 100))
    job = dataclasses.replace(fixtures.job(), feed=feed.feed_of(pixels, "cpu"))
    with pytest.raises(Interrupted, match="step 3 of 8"):
        trained(tmp_path / "cut", job, stop=lambda: next(steps) >= 3)
    again = dataclasses.replace(fixtures.job(), feed=feed.feed_of(pixels, "cpu"))
    assert_equal(whole, trained(tmp_path / "cut", again))


def test_a_view_on_a_canvas_is_the_view_of_the_image_alone(place: str) -> None:
    images = datasets.build(datasets.resolve(spec_of(place)), "train", place)
    assert isinstance(images.pixels, Stream)
    drawn = feed.feed_of(images.pixels, "cpu").batches(16, 0).next()
    canvas = drawn.images
    assert isinstance(canvas, views.Canvas) and len(canvas.extent.unique(dim=0)) > 10
    noise = torch.rand(canvas.pixels.shape) * 255
    beside = torch.ones(canvas.pixels.shape, dtype=torch.bool)
    for row, (height, width) in enumerate(canvas.extent.int().tolist()):
        beside[row, :height, :width] = False
    other = views.Canvas(torch.where(beside, noise.byte(), canvas.pixels), canvas.extent)
    for name in ("simclr_cifar", "byol_t_prime", "plain"):
        view = recipes.RECIPES[name]
        whole = views.apply(canvas, view, torch.Generator().manual_seed(1), 16)
        assert torch.equal(whole, views.apply(other, view, torch.Generator().manual_seed(1), 16))
        for row, (height, width) in enumerate(canvas.extent.int().tolist()):
            alone = canvas.pixels[row:row + 1, :height, :width].expand(16, -1, -1, -1)
            view_of_it = views.apply(alone, view, torch.Generator().manual_seed(1), 16)[row]
            torch.testing.assert_close(whole[row], view_of_it, atol=2e-5, rtol=1e-5)


def test_a_stream_sees_every_image_once_an_epoch_and_resumes_anywhere(place: str) -> None:
    images = datasets.build(datasets.resolve(spec_of(place)), "train", place)
    source = feed.feed_of(images.pixels, "cpu")
    batches = source.batches(16, 3)
    seen, states = [], []
    for _ in range(15):
        states.append(batches.state_dict())
        seen.append(batches.next())
    for epoch in range(3):
        numbers = torch.cat([drawn.rows for drawn in seen[5 * epoch:5 * epoch + 5]])
        assert len(numbers.unique()) == 80
    left_out = [set(range(90)) - {int(n) for drawn in seen[5 * e:5 * e + 5] for n in drawn.rows}
                for e in range(3)]
    assert all(len(out) == 10 for out in left_out) and left_out[0] != left_out[1]
    for step in (1, 4, 5, 12):
        again = source.batches(16, 3)
        again.next()
        again.load_state_dict(states[step])
        for drawn in seen[step:]:
            other = again.next()
            assert torch.equal(drawn.rows, other.rows)
            assert isinstance(drawn.images, views.Canvas) and isinstance(other.images, views.Canvas)
            assert torch.equal(drawn.images.pixels, other.images.pixels)
        again.close()
    batches.close()


def test_two_ranks_share_the_batches_of_one(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = datasets.build(datasets.resolve(spec_of(place)), "train", place)
    source = feed.feed_of(images.pixels, "cpu")
    whole = source.batches(16, 3)
    parts = []
    monkeypatch.setattr(feed, "world", lambda: 2)
    for number in range(2):
        monkeypatch.setattr(feed, "rank", lambda number=number: number)
        parts.append(source.batches(16, 3))
    for _ in range(7):
        together = torch.cat([part.next().rows for part in parts])
        assert torch.equal(whole.next().rows, together)
    monkeypatch.setattr(feed, "world", lambda: 3)
    with pytest.raises(ValueError, match="on 3 processes: lanes must divide"):
        source.batches(16, 3)


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
import torch
import test_training_feed as here, training_fixtures as fixtures
from harness.training.loop import Loop
torch.set_num_threads(1)
folder = Path(sys.argv[1])
loop = Loop(here.streamed_job(sys.argv[2], epochs=20.0),
            fixtures.surroundings(folder, checkpoint_seconds=0.0))
loop.run()
"""


def test_a_killed_stream_resumes_to_the_same_weights(place: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), place]
    with subprocess.Popen(command, cwd=ROOT) as process:
        while process.poll() is None and not (tmp_path / checkpoint.NAME).exists():
            time.sleep(0.01)
        time.sleep(random.Random(0).random() * 0.3)
        assert process.poll() is None, "the run must still be going when it is killed"
        process.kill()
    left = torch.load(tmp_path / checkpoint.NAME, weights_only=True)
    assert 0 < left["step"] < 112 and left["sampler"].keys() == {"epoch", "step"}
    whole = trained(tmp_path / "whole", streamed_job(place, epochs=20.0))
    torch.manual_seed(99)
    assert_equal(whole, trained(tmp_path, streamed_job(place, epochs=20.0)))


def run(root: Path, name: str, kind: str, params: dict[str, Any], place: str,
        **inputs: Path) -> tuple[Path, dict[str, Any]]:
    """One stage on the shards."""
    work = root / name
    work.mkdir()
    context = execute.Context("cpu", {"webdataset": place}, (), lambda facts: None, 60.0,
                              root / "checkpoints" / name, 1, lambda: False)
    found = execute.RUN[kind]({"kind": kind, "key": name, "params": params}, inputs, work, context)
    (work / "stage.json").write_text(json.dumps({"params": params}))
    return work, found


def test_stages_and_a_group_of_a_stream(place: str, tmp_path: Path) -> None:
    options, problems = resolve(named("simclr").options, {}, "simclr")
    assert not problems
    data = {key: value for key, value in datasets.resolve(spec_of(place)).items()
            if key != "class_counts"}
    params = {"method": "simclr", "options": options, "image_size": 16, "data": data, "seed": 0,
              "backbone": {"name": "resnet_tiny", "width": 8, "stages": 2}, "views": {},
              "training": {"epochs": 1.0, "batch_size": 16, "lr": 0.02}}
    base, found = run(tmp_path, "base", "pretrain", params, place)
    assert found["images_seen"] == 96 and np.isfinite(found["final_loss"])
    groups, found = run(tmp_path, "groups", "cluster", {
        "k": 2, "seed": 0, "data": data, "layer": "pooled", "precision": "fp32"}, place, base=base)
    assert sum(found["sizes"]) == IMAGES and min(found["sizes"]) > 1
    size = max(found["sizes"])
    expert, found = run(tmp_path, "expert", "pretrain", {
        **params, "subset": int(np.argmax(found["sizes"]))}, place, groups=groups)
    assert found["images_seen"] == max(1, round(size / min(16, size))) * min(16, size)
