"""Write a dataset as tar shards: WebDataset's layout with a manifest, resumable.

    <out>/<split>/000000.tar ...   KEY.jpg|png|webp and KEY.cls; KEY: position in the shards
                  labels.npy       int64 (N,), in the order of the shards
                  shards.json      the manifest; where it is, the split is complete
                  done.jsonl       while writing: the shards that are on disk

Images go in a random order of their own, so that reading on is already a mixture. Files are copied
as they are; what exists only as pixels, such as near duplicates, becomes PNG. Controls are applied
here, since a stream cannot choose its images.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from datasets._build import build, select
from datasets._resolve import RESOLVED, open_source
from datasets.decode import decode
from datasets.messages import DatasetError
from datasets.packing import PROBE, Progress, skipped_of, sync
from datasets.shards import MANIFEST, manifest
from datasets.sources.base import digest, file_digest
from datasets.sources.files import Files
from datasets.sources.shards import LABELS
from datasets.types import SPLITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split

VERSION = 1
ORDER_SEED = 0
NOTES = "done.jsonl"
MAGIC = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp"}
Encode = Callable[["NDArray[np.int64]"], list[bytes]]


def write(resolved: Mapping[str, Any], out: Path, path: str | Path | None = None,
          per_shard: int = 1000, progress: Progress = lambda split, done, total: None,
          ) -> dict[str, dict[str, Any]]:
    """Write the splits of a resolved dataset to `out`, or what an interruption has left of them.

    Returns images, shards and skipped of each split that has images. Raises FileNotFoundError for
    missing data; DatasetError for images that cannot be read (of a shard at a time) and where `out`
    holds shards of other images.
    """
    source = open_source({key: resolved[key] for key in RESOLVED}, path)
    if problem := source.problem():
        raise FileNotFoundError(problem)
    made: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        labels, encode = _images(resolved, split, path)
        if not len(labels):
            continue
        order = np.random.default_rng(ORDER_SEED).permutation(len(labels))
        folder = out / split
        folder.mkdir(parents=True, exist_ok=True)
        identity = digest(VERSION, resolved["fingerprint"], split, per_shard)
        if not _complete(folder, identity):
            sums = _shards(folder, identity, order, labels, encode, per_shard,
                           partial(_report, progress, split, len(order)))
            _finish(folder, {
                "version": VERSION, "identity": identity, "template": "{:06d}.tar",
                "counts": [min(per_shard, len(order) - start)
                           for start in range(0, len(order), per_shard)],
                "sha256": sums, "class_names": list(source.class_names),
                "source": source.name, "fingerprint": resolved["fingerprint"],
                "skipped": skipped_of(source)}, labels[order])
        facts = manifest(folder)
        made[split] = {"images": sum(facts["counts"]), "shards": len(facts["counts"]),
                       "skipped": facts["skipped"]}
    return made


def _report(progress: Progress, split: str, total: int, done: int) -> None:
    progress(split, done, total)


def _images(resolved: Mapping[str, Any], split: Split,
            path: str | Path | None) -> tuple[NDArray[np.int64], Encode]:
    """Labels of a split of the dataset, and what encodes the images at some of its positions."""
    source = open_source({key: resolved[key] for key in RESOLVED}, path)
    chosen, pool = select(resolved, split, path), source.pool(split)
    plain = not chosen.copy.any() and chosen.partner is None and (chosen.index < len(pool)).all()
    if isinstance(source, Files) and plain:
        own = pool.at(chosen.index)
        return own.labels, lambda at: _whole(source, source.part_of(split), own.ids[at])
    images = build(resolved, split, path)
    return images.labels, lambda at: [_png(pixels) for pixels in images.pixels[at]]


def _whole(source: Files, part: str, ids: NDArray[np.int64]) -> list[bytes]:
    """The files; DatasetError names those that are no images."""
    files = source.encoded(part, ids)
    with ThreadPoolExecutor() as threads:
        causes = list(threads.map(_cause, files))
    if any(causes):
        names = source.listing(part).files[ids].tolist()
        bad = [f"{name.decode()} ({cause})" for name, cause in zip(names, causes, strict=True)
               if cause]
        raise DatasetError([source.unreadable(bad, len(files), len(bad))])
    return files


def _cause(data: bytes) -> str | None:
    try:
        decode(data, PROBE)
    except ValueError as error:
        return str(error)
    return None


def _png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png", compress_level=1)
    return stream.getvalue()


def _complete(folder: Path, identity: str) -> bool:
    """Whether the split is written; DatasetError if something else is."""
    notes, there = folder / NOTES, (folder / MANIFEST).exists()
    found = manifest(folder).get("identity") if there else None
    if not there and notes.exists():
        found = json.loads(notes.read_text().partition("\n")[0] or "{}").get("identity", identity)
    if found not in (None, identity):
        raise DatasetError([f"{folder} holds shards of other images, or of another size: name "
                            "another folder with out=FOLDER, or delete it"])
    return there


def _shards(folder: Path, identity: str, order: NDArray[np.int64], labels: NDArray[np.int64],
            encode: Encode, per_shard: int, progress: Callable[[int], None]) -> list[str]:
    """Write the shards that are not on disk yet; the checksums of all of them."""
    done: dict[int, str] = {}
    notes = folder / NOTES
    for line in notes.read_text().splitlines() if notes.exists() else ():
        try:
            note = json.loads(line)
        except ValueError:  # cut off by a kill
            continue
        if "shard" in note and (folder / f"{note['shard']:06d}.tar").exists():
            done[note["shard"]] = note["sha256"]
    with notes.open("a") as stream:
        stream.write(("\n" if stream.tell() else "") + json.dumps({"identity": identity}) + "\n")
        for shard, start in enumerate(range(0, len(order), per_shard)):
            progress(start)
            if shard not in done:
                at = order[start:start + per_shard]
                done[shard] = _tar(folder / f"{shard:06d}.tar", start, encode(at), labels[at])
                stream.write(json.dumps({"shard": shard, "sha256": done[shard]}) + "\n")
                sync(stream)
    progress(len(order))
    return [done[shard] for shard in sorted(done)]


def _tar(path: Path, first: int, files: list[bytes], labels: NDArray[np.int64]) -> str:
    """One shard under its name, all of it or nothing; its SHA-256. Equal images, equal bytes."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for number, (data, label) in enumerate(zip(files, labels, strict=True), first):
                for suffix, content in ((MAGIC.get(data[:2], ".jpg"), data),
                                        (".cls", str(int(label)).encode())):
                    member = tarfile.TarInfo(f"{number:09d}{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        sync(stream)
    os.replace(temporary, path)
    return file_digest(path)


def _finish(folder: Path, facts: dict[str, Any], labels: NDArray[np.int64]) -> None:
    """Labels and manifest; the manifest last, since it says that the split is complete."""
    np.save(folder / LABELS, labels)
    temporary = folder / f".{MANIFEST}"
    with temporary.open("w") as stream:
        json.dump(facts, stream, indent=1, sort_keys=True)
        sync(stream)
    os.replace(temporary, folder / MANIFEST)
    (folder / NOTES).unlink(missing_ok=True)
