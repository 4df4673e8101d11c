"""Packs: the same bytes, opened fast, shared, made once; interruptions, damage, full disks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from source_layouts import build as copy_of
from support import ROOT, door

import datasets
from datasets import packing, shard_writing
from datasets.rows import Rows, settle, take
from datasets.sources import files


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 + 100 images of 16x16 in four classes."""
    path = tmp_path_factory.mktemp("npz") / "images.npz"
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
              for part, n in (("train", 600), ("test", 100))}
    np.savez(path, y_train=np.arange(600) % 4, y_test=np.arange(100) % 4, **arrays)
    return path


@pytest.fixture(scope="module")
def cache(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pack of `file`."""
    folder = tmp_path_factory.mktemp("packs")
    made = packing.pack(datasets.resolve({"source": "npz", "path": str(file)}), folder, file)
    assert made.folder.parent == folder and len(list(made.folder.glob("*.npy"))) == 6
    return folder


CONTROLS: list[dict[str, Any]] = [
    {}, {"size": 100}, {"size": 90, "controls": {"long_tail": {"imbalance": 10}}, "seed": 3},
    {"size": 120, "controls": {"correlation": {"repeats": 4}}}]


@pytest.mark.parametrize("wanted", CONTROLS)
def test_a_pack_gives_the_same_bytes(wanted: dict[str, Any], file: Path, cache: Path) -> None:
    resolved = datasets.resolve({"source": "npz", "path": str(file), **wanted})
    gone = file.with_name("gone.npz")  # the source is not looked at
    for split in datasets.SPLITS:
        plain = datasets.build(resolved, split, file)
        packed = datasets.build(resolved, split, gone, cache)
        assert len(plain) > 20 and plain.class_names == packed.class_names
        for name in ("pixels", "labels", "origin"):
            np.testing.assert_array_equal(getattr(plain, name), getattr(packed, name))


def test_photographs_are_packed_open_in_milliseconds_and_copies_are_cut_anew(
        tmp_path: Path) -> None:
    resolved = datasets.resolve({"source": "photos"})
    packing.pack(resolved, tmp_path)
    times = []
    for _ in range(5):
        began = time.process_time()
        whole = datasets.build(resolved, "train", packs=tmp_path)
        times.append(time.process_time() - began)
    assert isinstance(whole.pixels, np.memmap) and len(whole) > 45_000
    assert min(times) < 0.05, times
    spec = {"source": "photos", "size": 190, "controls": {"correlation": {"repeats": 5}}}
    copies = datasets.resolve(spec)
    packed = datasets.build(copies, "train", packs=tmp_path)
    np.testing.assert_array_equal(datasets.build(copies, "train").pixels, packed.pixels)


def test_rows_are_read_when_indexed_and_duplicates_made_then(file: Path, cache: Path) -> None:
    spec = {"source": "npz", "path": str(file), "size": 120,
            "controls": {"correlation": {"repeats": 4}}}
    plain = datasets.build(datasets.resolve(spec), "train", file)
    chosen = datasets.select(datasets.resolve(spec), "train", file)
    whole = datasets.build(datasets.resolve({**spec, "size": None, "controls": {}}), "train", file,
                           cache).pixels
    assert isinstance(whole, np.memmap) and not whole.flags.writeable
    rows = Rows(whole, chosen.index, chosen.copy, 0)
    assert settle(rows, limit=0) is rows and rows.shape == plain.pixels.shape  # type: ignore
    for at in (slice(3, 90, 7), np.array([5, 5, 100]), 17, np.arange(120) % 3 == 0):
        np.testing.assert_array_equal(rows[at], plain.pixels[at])
    np.testing.assert_array_equal(np.stack(list(rows)), plain.pixels)
    some = take(rows, np.arange(0, 120, 5))  # type: ignore[arg-type]
    assert isinstance(some, Rows) and (some[:] == plain.pixels[::5]).all()
    assert isinstance(take(whole, np.arange(3)), Rows)


def test_another_content_side_or_option_has_another_pack(file: Path, cache: Path) -> None:
    other = file.with_name("other.npz")
    with np.load(file) as arrays:
        np.savez(other, **{**arrays, "x_test": 255 - arrays["x_test"]})
    for spec in ({"path": str(other)}, {"path": str(file), "image_size": 8},
                 {"path": str(file), "options": {"holdout": False}}):
        resolved = datasets.resolve({"source": "npz", **spec})
        source = datasets.open_source(
            {key: resolved[key] for key in ("source", "image_size", "options")}, spec["path"])
        assert packing.find(cache, resolved, source) is None
        assert not isinstance(datasets.build(resolved, "test", spec["path"], cache).pixels,
                              np.memmap)


def test_damage_is_named(file: Path, cache: Path, tmp_path: Path) -> None:
    resolved = datasets.resolve({"source": "npz", "path": str(file)})
    copy = tmp_path / "packs"
    shutil.copytree(cache, copy)
    (pixels,) = copy.glob("npz-*/train.npy")
    with pixels.open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"\0\1\2\3")
    with pytest.raises(datasets.DatasetError, match=r"is damaged \(train.npy differ.*pack again"):
        packing.pack(resolved, copy, file)
    os.truncate(pixels, 9000)
    with pytest.raises(datasets.DatasetError, match="is damaged.*train.npy.*pack again"):
        datasets.build(resolved, "train", file, copy)
    (copy / pixels.parent.name / "pack.json").write_text("{")
    with pytest.raises(datasets.DatasetError, match="pack.json cannot be read.*pack again"):
        datasets.build(resolved, "train", file, copy)


PACK = """
import sys
from pathlib import Path
import datasets
from datasets import packing, shard_writing
packing.CHUNK = 16 * 16 * 3 * 20  # 20 images
def slow(split, done, total):
    print(split, done, flush=True)
    if len(sys.argv) > 3:
        sys.stdin.readline()
resolved = datasets.resolve({"source": "npz", "path": sys.argv[1]})
packing.pack(resolved, Path(sys.argv[2]), sys.argv[1], slow)
"""


def test_a_killed_packing_continues(file: Path, cache: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PACK, str(file), str(tmp_path)]
    process = subprocess.Popen([*command, "wait"], cwd=ROOT, text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    for _ in range(6):  # five chunks are on disk when the sixth is announced
        process.stdout.readline()
        process.stdin.write("\n")
        process.stdin.flush()
    process.stdout.readline()
    second = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert second.returncode and "another process is packing" in second.stderr
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (partial,) = tmp_path.glob(".npz-*.partial")
    notes = (partial / "done.jsonl").read_text().splitlines()
    assert 5 <= len(notes) < 12 and not list(tmp_path.glob("npz-*"))
    with (partial / "done.jsonl").open("a") as stream:
        stream.write('{"split": "te')  # as a kill leaves it
    stamp = json.loads(notes[0])["begin"]
    with (partial / "train.npy").open("r+b") as stream:  # to see that it is not decoded again
        stream.seek(128 + stamp * 768)
        stream.write(b"\7" * 768)
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (whole,), (again,) = cache.glob("npz-*/train.npy"), tmp_path.glob("npz-*/train.npy")
    first, second_ = np.load(whole), np.load(again)
    assert (second_[stamp] == 7).all() and (first[1:] == second_[1:]).all()
    assert not list(tmp_path.glob(".npz-*.partial"))


def test_a_full_disk_is_one_line(file: Path, tmp_path: Path) -> None:
    probe = subprocess.run(["unshare", "-rm", "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("needs user namespaces, to mount a small disk")
    command = (f"mount -t tmpfs -o size=400k none {tmp_path} && {sys.executable} -m harness.data "
               f"dataset=npz path={file} pack=true cache={tmp_path}")
    done = subprocess.run(["unshare", "-rm", "sh", "-c", command], cwd=ROOT, text=True,
                          capture_output=True)
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1
    assert "the pack needs 0.000538 GB" in done.stderr and "free some space" in done.stderr


def test_the_space_is_taken_before_it_is_written_to(tmp_path: Path) -> None:
    probe = subprocess.run(["unshare", "-rm", "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("needs user namespaces, to mount a small disk")
    code = ("from pathlib import Path; from datasets.packing import _allocate\n"
            f"try: _allocate(Path('{tmp_path}/a.npy'), (1000, 32, 32, 3))\n"
            "except OSError as error: print(error.errno, error.filename)")
    command = f"mount -t tmpfs -o size=400k none {tmp_path} && {sys.executable} -c \"{code}\""
    done = subprocess.run(["unshare", "-rm", "sh", "-c", command], cwd=ROOT, text=True,
                          capture_output=True)
    assert done.stdout == f"28 {tmp_path}/a.npy\n", done.stderr


def folder_of_images(root: Path) -> Path:
    """20 images in two classes, one of them cut short, one no image."""
    rng = np.random.default_rng(0)
    for number in range(20):
        place = root / "train" / "ab"[number % 2] / f"{number:02d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(place)
    data = (root / "train/a/04.jpg").read_bytes()
    (root / "train/a/04.jpg").write_bytes(data[:len(data) // 2])
    (root / "train/b/07.jpg").write_text("no image")
    return root


def test_unreadable_images_are_named_and_skipped_only_when_asked(tmp_path: Path) -> None:
    root = folder_of_images(tmp_path / "images")
    arguments = ["dataset=folder", f"path={root}", "image_size=16", "pack=true",
                 f"cache={tmp_path / 'packs'}"]
    refused = door("harness.data", *arguments)
    assert refused.returncode == 2
    assert [line for line in refused.stderr.splitlines() if line.startswith("error: ")][1:] == []
    assert "2 of 20 files" in refused.stderr and "04.jpg" in refused.stderr
    assert "07.jpg" in refused.stderr and "options.on_corrupt=skip" in refused.stderr
    assert not list((tmp_path / "packs").glob("folder-*"))
    done = door("harness.data", *arguments, "options.on_corrupt=skip")
    assert done.returncode == 0, done.stderr
    assert "skipped: 2 files that are no readable images" in done.stdout
    assert "04.jpg" in done.stdout and "07.jpg (not an image)" in done.stdout
    (header,) = (tmp_path / "packs").glob("folder-*/pack.json")
    told = json.loads(header.read_text())
    assert sum(told["images"].values()) == 18 and len(told["skipped"]) == 2
    assert told["decoder"].startswith("pil, Pillow")


def test_the_door_refuses_what_it_does_not_know() -> None:
    refused = door("harness.data", "dataset=photos", "pack=shard")
    assert refused.returncode == 2 and "Did you mean 'shards'?" in refused.stderr
    refused = door("harness.data", "dataset=photos", "pack=shards")
    assert refused.returncode == 2 and "out=FOLDER" in refused.stderr
    assert "pack=true" in door("harness.data", "pack=true", "-h").stdout


def test_a_source_of_files_is_packed_and_sharded_and_damage_is_named(tmp_path: Path) -> None:
    root = tmp_path / "dtd"
    copy_of("dtd", root)
    spec = {"source": "dtd", "path": str(root), "image_size": 16, "options": {"partial": True}}
    resolved = datasets.resolve(spec)
    packing.pack(resolved, tmp_path / "packs", root)
    shard_writing.write(resolved, tmp_path / "shards", root, 3)
    streamed = datasets.resolve({"source": "shards", "path": str(tmp_path / "shards"),
                                 "image_size": 16})
    for split in ("train", "test"):
        plain = datasets.build(resolved, split, root)
        packed = datasets.build(resolved, split, root, tmp_path / "packs")
        assert len(plain) > 1 and (plain.pixels == packed.pixels).all()
        shards = datasets.build(streamed, split, tmp_path / "shards")
        order = np.random.default_rng(0).permutation(len(plain))
        assert (shards.labels == plain.labels[order]).all() and len(shards) == len(plain)
        # whole images are decoded first, and JPEGs at another scale
        assert np.abs(shards.pixels[:].astype(int) - plain.pixels[order]).mean() < 12
    source: Any = datasets.open_source(resolved, root)
    victims = [root / source.listing("train").files[n].decode() for n in (0, 1)]
    whole = victims[1].read_bytes()
    for victim in victims:
        victim.write_bytes(victim.read_bytes()[:150])
    resolved = datasets.resolve(spec)
    for work in (lambda: packing.pack(resolved, tmp_path / "other", root),
                 lambda: shard_writing.write(resolved, tmp_path / "third", root),
                 lambda: datasets.build(resolved, "train", root).pixels[:]):
        with pytest.raises(datasets.DatasetError) as error:
            work()
        assert all(victim.name in str(error.value) for victim in victims)
        assert len(error.value.problems) == 1 and "fetch them again" in str(error.value)
        assert "delete them and set data.options.partial=true" in str(error.value)
    # the remedies: one is fetched again; without the other it goes on, and says so
    victims[1].write_bytes(whole)
    victims[0].unlink()
    files._listing.cache_clear()  # as in the next process
    assert len(datasets.build(datasets.resolve(spec), "train", root).pixels) == 1
    said = next(line for line in datasets.left_out(spec) if "lacks 1 of 2 training" in line)
    assert victims[0].name in said and said.endswith("partial=true goes on without")
