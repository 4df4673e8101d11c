"""Shards: the order of an epoch, ranks, resuming, damage, and memory that knows no number."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import ROOT, door

import datasets
from datasets import decoders, shard_writing, shards
from datasets.rows import take
from datasets.streams import Stream


def jpeg(rng: np.random.Generator, height: int, width: int) -> bytes:
    """A file with a smooth random picture."""
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(stream, "jpeg")
    return stream.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    """A shard as other programs write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven shards of 20 images and one of 13, of different sizes, with captions."""
    root = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for shard in range(8):
        files: dict[str, bytes] = {}
        for number in range(20 if shard < 7 else 13):
            key = f"{shard:03d}{number:04d}"
            files[f"{key}.jpg"] = jpeg(rng, int(rng.integers(30, 90)), int(rng.integers(30, 90)))
            files[f"{key}.txt"] = b"a caption"
        write_tar(root / f"web-{shard:04d}.tar", files)
    return root


def listing(folder: Path) -> shards.Listing:
    return shards.parse(folder / "web-{0000..0007}.tar", 153, 20)


LISTINGS = {
    "declared": listing,
    "counted": lambda f: shards.Listing(str(f / "web-{:04d}.tar"), 0, 153, None,
                                        np.array([20] * 7 + [13])),
    "head": lambda f: listing(f).head(90),
    "subset": lambda f: listing(f).at(np.arange(1, 153, 2)),
    "subset of counted": lambda f: LISTINGS["counted"](f).at(np.flatnonzero(np.arange(153) % 3)),
    "range from 2": lambda f: shards.parse(f / "web-{0002..0005}.tar", 80),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_an_epoch_has_every_image_once_whatever_the_ranks(name: str, folder: Path) -> None:
    listed = LISTINGS[name](folder)
    batches = {world: [] for world in (1, 2, 4)}
    for world, found in batches.items():
        parts = [shards.Epoch(listed, shards.Share(16, 8, rank, world, window=3), 5, 2).batches()
                 for rank in range(world)]
        found += [[s.number for part in row for s in part] for row in zip(*parts, strict=True)]
    assert batches[1] == batches[2] == batches[4]
    seen = [number for batch in batches[1] for number in batch]
    steps = listed.images // 16
    assert len(batches[1]) == steps > 3 and len(set(seen)) == len(seen) == 16 * steps
    assert set(seen) <= set(range(listed.images))
    other = shards.Epoch(listed, shards.Share(16, 8, window=3), 5, 3).batches()
    assert [s.number for s in next(other)] != batches[1][0]


@pytest.mark.parametrize("name", LISTINGS)
@pytest.mark.parametrize("step", [1, 3])
def test_an_epoch_continues_at_any_step(name: str, step: int, folder: Path) -> None:
    epoch = shards.Epoch(LISTINGS[name](folder), shards.Share(16, 4, window=10), 5, 0)
    whole, rest = list(epoch.batches()), list(epoch.batches(step))
    assert rest == whole[step:] and rest


def test_numbers_are_positions_in_the_shards(folder: Path) -> None:
    for sample in shards.Order(listing(folder), 1, 1).read(0, 153):
        shard, place = divmod(sample.number, 20)
        assert sample.key == f"web-{shard:04d}.tar/{shard:03d}{place:04d}.jpg"
    rows = np.array([0, 19, 20, 152])
    keys = [s.key[-11:-4] for s in sorted(shards.Order(listing(folder).at(rows), 1, 1).read(0, 4))]
    assert keys == ["0000000", "0000019", "0010000", "0070012"]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 9), st.integers(0, 9))
def test_the_computed_order_is_a_permutation_with_its_inverse(n: int, seed: int,
                                                              epoch: int) -> None:
    order = shards.Shuffled(n, seed, epoch)
    found = order(np.arange(n))
    assert (np.sort(found) == np.arange(n)).all()
    assert (order.place(found) == np.arange(n)).all()


def test_the_computed_order_passes_for_random() -> None:
    places = np.stack([shards.Shuffled(64, seed, 0)(np.arange(64)) for seed in range(2000)])
    counts = np.stack([np.bincount(column, minlength=64) for column in places.T])
    expected = 2000 / 64
    chi = ((counts - expected) ** 2 / expected).sum(1)  # 63 degrees of freedom: 63 +- 11.2
    assert 58 < chi.mean() < 68 and chi.max() < 120
    steps = np.diff(places, axis=1)
    assert abs((steps == 1).mean() - 1 / 64) < 0.003


def test_images_are_decoded_whole_in_order_and_in_parts(folder: Path) -> None:
    resolved = datasets.resolve({"source": "webdataset", "image_size": 24,
                                 "path": str(folder / "web-{0000..0007}.tar"),
                                 "options": {"images": 153, "per_shard": 20}})
    assert resolved["images"] == resolved["unlabelled"] == 153
    assert resolved["class_counts"] == [153]
    images = datasets.build(resolved, "train", str(folder / "web-{0000..0007}.tar"))
    assert isinstance(images.pixels, Stream) and images.pixels.shape == (153, 24, 24, 3)
    assert images.labels.strides == (0,) and len(datasets.build(
        resolved, "test", str(folder / "web-{0000..0007}.tar"))) == 0
    some = images.pixels[15:45]
    np.testing.assert_array_equal(some[7], images.pixels[22])
    part = take(images.pixels, np.arange(1, 153, 4))
    np.testing.assert_array_equal(part[4:9], np.stack([images.pixels[n] for n in
                                                       range(17, 37, 4)]))
    sample = next(shards.read(images.pixels.listing, 1, 2, 3))
    _, (whole,) = images.pixels.decode([sample])
    with Image.open(io.BytesIO(sample.data)) as image:
        same_size = image.height <= images.pixels.canvas >= image.width
        assert not same_size or (whole == np.asarray(image)).all()
    assert max(whole.shape) <= images.pixels.canvas == 55


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 + 60 images of 16x16 in three classes."""
    path = tmp_path_factory.mktemp("npz") / "images.npz"
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
              for part, n in (("train", 300), ("test", 60))}
    np.savez(path, y_train=np.arange(300) % 3, y_test=np.arange(60) % 3, **arrays)
    return path


def test_a_dataset_is_written_and_read_back(file: Path, tmp_path: Path) -> None:
    spec = {"source": "npz", "path": str(file), "size": 190,
            "controls": {"correlation": {"repeats": 5}}}
    done = door("harness.data", "dataset=npz", f"path={file}", "size=190", "correlation.repeats=5",
                "pack=shards", "per_shard=50", f"out={tmp_path}")
    assert done.returncode == 0 and "train 190 images in 4 files" in done.stdout, done.stderr
    plain = datasets.build(datasets.resolve(spec), "train", file)
    again = datasets.resolve({"source": "shards", "path": str(tmp_path), "image_size": 16})
    images = datasets.build(again, "train", tmp_path)
    order = np.random.default_rng(0).permutation(190)
    np.testing.assert_array_equal(images.pixels[:], plain.pixels[order])
    np.testing.assert_array_equal(images.labels, plain.labels[order])
    assert again["class_counts"] == np.bincount(plain.labels, minlength=3).tolist()
    assert images.class_names == plain.class_names
    assert len(datasets.build(again, "test", tmp_path)) == 60
    fewer = datasets.resolve({"source": "shards", "path": str(tmp_path), "image_size": 16,
                              "size": 60})
    assert fewer["images"] == 60 and sum(fewer["class_counts"]) == 60
    assert len(datasets.build(fewer, "train", tmp_path)) == 60
    with pytest.raises(datasets.DatasetError, match="holds shards of other images"):
        shard_writing.write(datasets.resolve({**spec, "size": 195}), tmp_path, file)


WRITE = """
import sys
from pathlib import Path
import datasets
from datasets import shard_writing
def slow(split, done, total):
    print(split, done, flush=True)
    if len(sys.argv) > 3:
        sys.stdin.readline()
resolved = datasets.resolve({"source": "npz", "path": sys.argv[1], "size": 200})
shard_writing.write(resolved, Path(sys.argv[2]), sys.argv[1], 20, slow)
"""


def test_a_killed_writing_continues(file: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [sys.executable, "-c", WRITE, str(file)]
    process = subprocess.Popen([*command, str(cut), "wait"], cwd=ROOT, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    for _ in range(4):
        process.stdout.readline()
        process.stdin.write("\n")
        process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in cut.glob("train/*.tar")}
    assert len(before) == 4 and not (cut / "train/shards.json").exists()
    for place in (cut, whole):
        subprocess.run([*command, str(place)], cwd=ROOT, check=True, capture_output=True)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert len(names) > 15
    assert all((whole / name).read_bytes() == (cut / name).read_bytes() for name in names)


def test_what_is_wrong_with_shards_is_one_line(folder: Path, tmp_path: Path) -> None:
    def problems(**changes: object) -> str:
        spec = {"source": "webdataset", "path": str(folder / "web-{0000..0007}.tar"),
                "options": {"images": 153, "per_shard": 20}, **changes}
        with pytest.raises(datasets.DatasetError) as error:
            datasets.resolve(spec)
        assert len(error.value.problems) == 1
        return str(error.value)

    assert "set data.options.images=NUMBER" in problems(options={})
    assert "as FOLDER/name-{000000..000099}.tar" in problems(path=str(folder))
    assert "are 6 shards, " in problems(options={"images": 120, "per_shard": 20})
    assert "web-0009.tar (of 10 shards" in problems(path=str(folder / "web-{0000..0009}.tar"),
                                                    options={"images": 200})
    assert "control 'long_tail' cannot choose from it" in problems(
        size=100, controls={"long_tail": {"imbalance": 10}})
    assert "reduce size by 47" in problems(size=200)
    assert "Available: pil, simplejpeg" in problems(options={"images": 153, "decoder": "gpu"})
    assert "needs a place" in problems(path=None)
    with pytest.raises(datasets.DatasetError, match="lanes must divide the batch and be a mult"):
        shards.Share(16, 8, 0, 3)
    more = shards.parse(folder / "web-{0000..0007}.tar", 160, 20)
    with pytest.raises(datasets.DatasetError, match="has 13 images .* 20 are declared: it is cut"):
        list(shards.Order(more, 0, 0).read(0, 160))
    cut = tmp_path / "web-0000.tar"
    data = (folder / "web-0000.tar").read_bytes()
    cut.write_bytes(data[:len(data) // 2])
    with pytest.raises(datasets.DatasetError, match="web-0000.tar (cannot be read|has)"):
        list(shards.Order(shards.parse(tmp_path / "web-{0000..0000}.tar", 20), 0, 0).read(0, 20))


def test_unreadable_images_stop_the_stream_or_are_noted(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    files = {f"{n:02d}.jpg": jpeg(rng, 20, 20) for n in range(6)}
    files["02.jpg"] = files["02.jpg"][:200]
    files["05.jpg"] = b"no image"
    write_tar(tmp_path / "a0.tar", files)
    listed = shards.parse(tmp_path / "a{0..0}.tar", 6)
    samples = list(shards.read(listed, 0, 0, 6))
    with pytest.raises(datasets.DatasetError, match=r"2 of 6 .*a0.tar/02.jpg.*05.jpg \(not an im"):
        Stream(listed, 16, 32).decode(samples)
    stream = Stream(listed, 16, 32, on_corrupt="skip")
    numbers, pixels = stream.decode(samples)
    assert numbers.tolist() == [0, 1, 3, 3, 4, 0] and len(pixels) == 6
    assert sorted(stream.skipped) == ["a0.tar/02.jpg", "a0.tar/05.jpg"]
    assert "2 images are skipped" in caplog.text


def test_simplejpeg_decodes_nearly_the_same() -> None:
    pytest.importorskip("simplejpeg")
    data = jpeg(np.random.default_rng(0), 60, 80)
    ours, theirs = decoders.whole(data, 100), decoders.whole(data, 100, "simplejpeg")
    assert ours.shape == theirs.shape == (60, 80, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 4


HUGE = """
import resource, sys, time
from dataclasses import replace
import numpy, datasets
from datasets import shards
began = time.process_time()
path, images, real = sys.argv[1], int(sys.argv[2]), sys.argv[3]
resolved = datasets.resolve({"source": "webdataset", "path": path, "image_size": 32,
                             "options": {"images": images, "per_shard": 1000}})
built = datasets.build(resolved, "train", path)
listing = replace(built.pixels.listing, template=real)  # every shard is the real one
epoch = shards.Epoch(listing, shards.Share(64, 8, 1, 4, 32), 0, 3)
first = next(epoch.batches(0))
last = next(epoch.batches(epoch.steps - 1))
assert len(built) == images and len(first) == len(last) == 16
for number, batch in enumerate(epoch.batches(5)):
    if number == 100:
        break
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time() - began)
"""


def test_memory_and_start_do_not_depend_on_the_number_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [jpeg(rng, 40, 50) for _ in range(10)]
    real = tmp_path / "real.tar"
    write_tar(real, {f"{n:06d}.jpg": pictures[n % 10] for n in range(1000)})
    found: dict[int, list[float]] = {}
    for images in (10**6, 10**8):
        names = [f"s-{number:06d}.tar" for number in (0, images // 1000 - 1)]
        for name in set(names):  # the first and the last are looked at when a run is planned
            if not (tmp_path / name).exists():
                os.symlink(real, tmp_path / name)
        place = str(tmp_path / f"s-{{000000..{images // 1000 - 1:06d}}}.tar")
        done = subprocess.run([sys.executable, "-c", HUGE, place, str(images), str(real)],
                              cwd=ROOT, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        found[images] = [float(value) for value in done.stdout.split()]
    small, large = found[10**6], found[10**8]
    assert large[0] < small[0] + 4096, f"KiB of {found}"
    assert large[1] < small[1] + 0.5, f"CPU seconds of {found}"
