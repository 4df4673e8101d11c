"""Packs: a source decoded once into files that open in milliseconds and are shared by processes.

    <cache>/<source>-<id>/pack.json          what it holds, from what, and checksums
                          <split>.npy        uint8 (N, S, S, 3), to be memory-mapped
                          <split>_pool.npy   int64 (4, N): labels, origin, tier, ids
                          names.json         class/file of each image, where images are files
    <cache>/.<source>-<id>.partial/          a pack in the making; done.jsonl lists its chunks

A pack holds a source's splits without controls, so every dataset of the source shares it. It is
found by content: the header keeps the fingerprints of the source's splits, from which `find`
computes the fingerprint of the dataset that is asked for. So a pack of other files, another side or
other options is never taken for this one.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from datasets._resolve import RESOLVED, fingerprint, open_source
from datasets.decode import decode
from datasets.messages import DatasetError
from datasets.sources.base import digest, file_digest
from datasets.sources.files import Files
from datasets.types import SPLITS, Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.sources import Source
    from datasets.types import Split

VERSION = 1
CHUNK = 1 << 26  # bytes decoded between two notes of progress
HEADER, NAMES, DONE = "pack.json", "names.json", "done.jsonl"
PROBE = 32  # side that files are decoded to, to see that they are whole: JPEGs at an eighth
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Pack:
    """A complete pack; reading it checks sizes, `verify` every byte."""

    folder: Path
    header: Mapping[str, Any]

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per label value."""
        return tuple(self.header["class_names"])

    def pool(self, split: Split) -> Pool:
        """Labels, origins, tiers and ids of a split, as the source gave them."""
        return Pool(*_load(self.folder / f"{split}_pool.npy", mapped=False))

    def names(self, split: Split) -> list[str] | None:
        """class/file of each image, None where images are not files."""
        if not self.header["named"]:
            return None
        names: list[str] = json.loads((self.folder / NAMES).read_text())[split]
        return names

    def pixels(self, split: Split) -> NDArray[np.uint8]:
        """uint8 (N, H, W, 3), read-only, in the file."""
        return _load(self.folder / f"{split}.npy", mapped=True)

    def verify(self) -> None:
        """Read every byte; raises DatasetError naming the files that are not as written."""
        bad = [name for name, sha in self.header["sha256"].items()
               if not (self.folder / name).is_file() or file_digest(self.folder / name) != sha]
        if bad:
            raise DatasetError([f"pack {self.folder} is damaged ({', '.join(bad)} differ from the "
                                "checksums in pack.json): delete the folder and pack again"])


def find(cache: Path, resolved: Mapping[str, Any], source: Source) -> Pack | None:
    """The pack that holds the images of a resolved dataset, None if there is none.

    Reads the headers of the source's packs and nothing of the source itself. Raises DatasetError
    for a header that cannot be read.
    """
    for path in sorted(cache.glob(f"{source.name}-*/{HEADER}")):
        header = _header(path)
        made_so = {name: header[name] for name in ("version", "revision", "side", "options")}
        if made_so == _made_so(source) and fingerprint(
                source, resolved, header["content"]) == resolved["fingerprint"]:
            return Pack(path.parent, header)
    return None


def _made_so(source: Source) -> dict[str, Any]:
    """What decides, beside the content, what a pack of the source holds; JSON values."""
    return {"version": VERSION, "revision": source.revision, "side": source.side(),
            "options": dict(sorted(source.lasting().items()))}


def pack(resolved: Mapping[str, Any], cache: Path, path: str | Path | None = None,
         progress: Progress = lambda split, done, total: None) -> Pack:
    """Make the pack of a resolved dataset's source, or verify the one that is there.

    Continues a pack that was interrupted. `progress` gets split, images done, images in all.
    Raises FileNotFoundError for missing data, DatasetError for images that cannot be read (all of
    them), for a full disk and for damage, BlockingIOError while another process packs the same.
    """
    source = open_source({key: resolved[key] for key in RESOLVED}, path)
    if getattr(source, "whole", False):
        raise DatasetError([f"a pack of source '{source.name}' holds squares: leave out "
                            "data.options.whole, or write its files as shards (pack=shards)"])
    if found := find(cache, resolved, source):
        found.verify()
        return found
    if problem := source.problem():
        raise FileNotFoundError(problem)
    content = [source.fingerprint(split) for split in SPLITS]
    identity = digest(source.name, json.dumps(_made_so(source), sort_keys=True), *content)
    folder = cache / f"{source.name}-{identity[:16]}"
    partial = cache / f".{folder.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    with _alone(partial):
        _room(source, partial)
        pools = {split: source.pool(split) for split in SPLITS}
        for split in SPLITS:
            _pack_split(source, split, pools[split], partial, progress)
        header = {**_made_so(source), "source": source.name, "content": content,
                  "identity": identity, "class_names": list(source.class_names),
                  "images": {split: len(pool) for split, pool in pools.items()},
                  "decoder": _decoder(source), "skipped": skipped_of(source)}
        _finish(source, partial, folder, header)
    return Pack(folder, _header(folder / HEADER))


def _finish(source: Source, partial: Path, folder: Path, header: dict[str, Any]) -> None:
    """Names, header and checksums; then the folder takes its name."""
    names = {split: source.names(split) for split in SPLITS}
    header["named"] = all(listed is not None for listed in names.values())
    if header["named"]:
        (partial / NAMES).write_text(json.dumps(names))
    files = sorted(p.name for p in partial.iterdir() if p.suffix == ".npy" or p.name == NAMES)
    header["sha256"] = {name: file_digest(partial / name) for name in files}
    with (partial / HEADER).open("w") as stream:
        json.dump(header, stream, indent=1, sort_keys=True)
        sync(stream)
    (partial / DONE).unlink(missing_ok=True)
    partial.rename(folder)


def _pack_split(source: Source, split: Split, pool: Pool, partial: Path,
                progress: Progress) -> None:
    """Decode what is missing of one split, chunk by chunk; a chunk is noted once it is on disk."""
    np.save(partial / f"{split}_pool.npy",
            np.stack([pool.labels, pool.origin, pool.tier, pool.ids]))
    total = len(pool)
    side = source.side()
    if side is None and total:  # images of one size that only they know
        shape: tuple[int, ...] = (total, *source.pixels(split, np.arange(1)).shape[1:])
    else:
        shape = (total, side or 1, side or 1, 3)
    target = partial / f"{split}.npy"
    start, kept = _allocate(target, shape)
    step = max(1, CHUNK // int(np.prod(shape[1:])))
    problems: list[str] = []
    done = _done(partial, split, step) if kept else set()
    with target.open("r+b") as stream, (partial / DONE).open("a") as notes:
        for begin in range(0, total, step):
            progress(split, begin, total)
            if begin in done:
                continue
            index = np.arange(begin, min(begin + step, total))
            try:
                pixels = source.pixels(split, index)
            except DatasetError as error:  # go on, so that all of them are named at once
                problems += _unreadable(source, split, index) or error.problems
                continue
            stream.seek(start + begin * int(np.prod(shape[1:])))
            stream.write(np.ascontiguousarray(pixels).data)
            sync(stream)
            notes.write(json.dumps({"split": split, "begin": begin, "step": step}) + "\n")
            sync(notes)
    progress(split, total, total)
    if problems:
        raise DatasetError(list(dict.fromkeys(problems)))


def _unreadable(source: Source, split: Split, index: NDArray[np.int64]) -> list[str]:
    """One line that names every file among these that is no readable image; none if none is."""
    if not isinstance(source, Files):
        return []
    part, ids = source.part_of(split), source.pool(split).ids[index]
    bad = []
    for name, data in zip(source.listing(part).files[ids], source.encoded(part, ids), strict=True):
        try:
            decode(data, PROBE)
        except ValueError as error:
            bad.append(f"{name.decode()} ({error})")
    return [source.unreadable(bad, len(ids), len(bad))] if bad else []


def _allocate(target: Path, shape: tuple[int, ...]) -> tuple[int, bool]:
    """A .npy file of that shape with all its blocks; where its data starts, whether it was there.

    Blocks are taken now: a full disk is an error here, but a SIGBUS when a hole is written to.
    """
    with target.open("a+b") as stream:
        stream.seek(0)
        try:
            np.lib.format.read_magic(stream)
            found = np.lib.format.read_array_header_1_0(stream)[0]
        except ValueError:
            found = None
        if found != shape:
            stream.truncate(0)
            description = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, description)
        stream.flush()
        start = stream.tell()
        size = start + int(np.prod(shape))
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(target)) from None
        return start, found == shape


def _done(partial: Path, split: str, step: int) -> set[int]:
    """First images of the chunks on disk; a line that a kill has cut off does not count."""
    found: set[int] = set()
    notes = partial / DONE
    for line in notes.read_text().splitlines() if notes.exists() else ():
        try:
            note = json.loads(line)
        except ValueError:
            continue
        if note["split"] == split and note["step"] == step:
            found.add(note["begin"])
    return found


def _room(source: Source, partial: Path) -> None:
    """Raise DatasetError where the images cannot fit, before any is decoded."""
    side = source.side()
    if side is None:
        return
    needed = sum(int(source.counts(split).sum()) for split in SPLITS) * side * side * 3
    there = sum(p.stat().st_blocks * 512 for p in partial.iterdir())
    free = shutil.disk_usage(partial).free + there
    if needed > free:
        raise DatasetError([f"the pack needs {needed / 1e9:.3g} GB, {partial.parent} has "
                            f"{free / 1e9:.3g} GB left: free some space, name another place, or "
                            "write shards (pack=shards), which stay compressed"])


def _header(path: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(path.read_text())
        missing = {"version", "revision", "side", "options", "content"} - set(header)
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        return header
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError([f"{path} cannot be read ({error}): delete its folder and pack "
                            "again"]) from None


def _load(path: Path, *, mapped: bool) -> NDArray[Any]:
    """An array of a pack. Raises DatasetError for a file that is missing or cut short."""
    try:
        # an empty file cannot be mapped; the header of a split without images is 128 bytes
        whole = not mapped or path.stat().st_size <= 128
        return np.asarray(np.load(path, allow_pickle=False)) if whole else np.load(
            path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError([f"pack {path.parent} is damaged ({path.name}: {error}): delete the "
                            "folder and pack again"]) from None


def _decoder(source: Source) -> str:
    """What made the pixels: decoders differ by rounding."""
    import PIL

    return f"{getattr(source, 'decoder', 'pil')}, Pillow {PIL.__version__}"


def skipped_of(source: Source) -> list[str]:
    """The files that on_corrupt=skip left out, with the cause of each."""
    listed = getattr(source, "skipped", None)
    return list(listed()) if listed is not None else []


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Hold the pack in the making; BlockingIOError if another process does."""
    lock = partial.with_suffix(".lock")
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"another process is packing {partial}: wait for it") from None
        yield
        lock.unlink(missing_ok=True)


def sync(stream: IO[Any]) -> None:
    """What was written is on disk when this returns."""
    stream.flush()
    os.fsync(stream.fileno())
