"""Labelled subsets: which images of a training set a semi-supervised evaluation may see labels of.

    chosen = semi.labelled(resolved, path, share=0.01, seed=0)
    train = datasets.build(resolved, "train", path)
    x, y = train.pixels[chosen.positions], train.labels[chosen.positions]

By seed and class-balanced (`share` or `shots`), or a published list (`file`): SimCLR's 1 % and 10 %
of ImageNet name files, SDCLR's few-shot sets number the images of CIFAR. A source image counts
once, however many copies of it there are. A list is of all images that were published for training;
`listed` also finds those of it that are held out for validation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets import lists
from datasets._build import select
from datasets._resolve import open_source
from datasets.controls.base import ranks
from datasets.messages import DatasetError, TooFewImages
from datasets.sources.base import digest
from datasets.sources.files import Files
from datasets.sources.heldout import HeldOut
from datasets.types import Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.sources import Source

REVISION = 1  # of how images are drawn
STREAM = 0x5E31  # of random numbers, apart from those of the controls
MISSING = ("error", "skip")
# Source -> share -> the list of images that papers mean by it (google-research/simclr,
# imagenet_subsets/).
PUBLISHED = {"imagenet": {0.01: "1percent.txt", 0.1: "10percent.txt"}}


@dataclass(frozen=True, eq=False)
class Subset:
    """Positions in a training set, ascending, int64 (n,), with a fingerprint of what they are.

    missing: images of a published list that the training set lacks (0 unless skipping is set).
    """

    positions: NDArray[np.int64]
    fingerprint: str
    missing: int = 0

    def __len__(self) -> int:
        return len(self.positions)


def labelled(resolved: Mapping[str, Any], path: str | Path | None = None, *,
             share: float | None = None, shots: int | None = None, file: str = "", key: str = "",
             seed: int = 0, missing: str = "error") -> Subset:
    """The labelled part of the training set that `build(resolved, "train", path)` returns.

    Give one of share, shots and file; see `subset`. A list is looked for in the data's folder and
    in $CURATION_GAP_LISTS. Decodes no image. Raises DatasetError.
    """
    source = open_source({name: resolved[name] for name in ("source", "image_size", "options")},
                         path)
    pool = source.pool("train")
    chosen = select(resolved, "train", path).index
    chosen = chosen[chosen < len(pool)]  # images of another source have no label
    names = source.names("train") if file else None
    try:
        return subset(pool.at(chosen), share=share, shots=shots, file=file, key=key,
                      seed=seed, missing=missing, folder=source.folder(),
                      names=None if names is None else [names[position] for position in chosen])
    except TooFewImages as error:
        line = error.line(f"class '{source.class_names[error.label]}'")
        raise DatasetError([f"{shots} shots of source '{source.name}': {line}"]) from None
    except (ValueError, FileNotFoundError) as error:
        raise DatasetError([f"labelled subset of source '{source.name}': {error}"]) from None


def published(spec: Mapping[str, Any], share: float) -> str:
    """The list that papers mean by a share of a data set, "" where there is none.

    spec: of a data set, resolved or not; a part of one (size, controls) has none.
    """
    if spec.get("size") is not None or spec.get("controls"):
        return ""
    return PUBLISHED.get(str(spec.get("source")), {}).get(share, "")


def place(source: Source) -> Path | None:
    """The folder of a source in which its lists may lie: its own, or where it is by default."""
    return source.folder() or (source.root if isinstance(source, Files) else None)


def listed(resolved: Mapping[str, Any], path: str | Path | None = None, *, file: str,
           key: str = "") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images of a published list: positions in the training set and in the validation split.

    Both ascending, int64. What is held out for validation is of the published training part, so a
    list of that part may name it. Decodes no image. Raises DatasetError for a list that cannot be
    read or that names images which are in neither.
    """
    source = open_source({name: resolved[name] for name in ("source", "image_size", "options")},
                         path)
    pool = source.pool("train")
    chosen = select(resolved, "train", path).index
    chosen = chosen[chosen < len(pool)]
    pool, names = pool.at(chosen), source.names("train")
    names = None if names is None else [names[position] for position in chosen]
    if isinstance(source, HeldOut) and source.part_of("validation") == "train":
        held = source.pool("validation")
        pool = Pool(*(np.concatenate([getattr(part, field.name) for part in (pool, held)])
                      for field in dataclasses.fields(Pool)))
        names = None if names is None else names + (source.names("validation") or [])
    try:
        found = subset(pool, file=file, key=key, folder=place(source), names=names, missing="skip")
    except (ValueError, FileNotFoundError) as error:
        raise DatasetError([f"labelled subset of source '{source.name}': {error}"]) from None
    if found.missing:
        raise DatasetError([
            f"list {file} names {found.missing} images of {found.missing + len(found)} that source "
            f"'{source.name}' lacks: complete it, or draw by seed (semi: draw=seed)"])
    own = found.positions < len(chosen)
    return found.positions[own], found.positions[~own] - len(chosen)


def subset(pool: Pool, *, share: float | None = None, shots: int | None = None, file: str = "",
           key: str = "", seed: int = 0, missing: str = "error",
           names: Sequence[str] | None = None, folder: Path | None = None) -> Subset:
    """Choose labelled images of a pool: share of all, shots of each class, or a published list.

    share: of the source images, in (0, 1], spread evenly over the classes (a class that has fewer
    gives all it has, the others more). shots: images of every class, exactly. Both take one image
    of every origin (photograph, track) before a second one, and a smaller subset lies inside a
    larger one of the same seed. file and key: a list as the control `index_list` reads it, or one
    of file names alone; images that the pool lacks, such as those held out for validation, are an
    error or, by missing='skip', counted. Images without a label are never chosen.

    Raises ValueError for bad parameters, TooFewImages (how many a class has) for too many shots.
    """
    given = [name for name, value in (("share", share), ("shots", shots), ("file", file or None))
             if value is not None]
    if len(given) != 1:
        raise ValueError("give one of share, shots and file, not "
                         + (" and ".join(given) or "none of them"))
    if missing not in MISSING:
        raise ValueError(f"missing must be 'error' or 'skip', not {missing!r}")
    _, first = np.unique(pool.ids, return_index=True)  # copies share the id of their image
    rows = np.sort(first[pool.labels[first] >= 0])
    if file:
        listed = lists.read(lists.find(file, folder), key)
        chosen, absent = _listed(pool, rows, listed, file, names, missing)
        return Subset(chosen, _fingerprint(chosen, "list", listed.digest, missing), absent)
    counts = _counts(pool.labels[rows], share, shots)
    chosen = np.sort(rows[_rank(pool.at(rows), seed) < counts[pool.labels[rows]]])
    return Subset(chosen, _fingerprint(chosen, share, shots, seed))


def _counts(labels: NDArray[np.int64], share: float | None,
            shots: int | None) -> NDArray[np.int64]:
    """Labelled images of each class, int64 (C,); classes that are not there get none."""
    has = np.bincount(labels)
    there = np.flatnonzero(has)
    if shots is not None:
        if isinstance(shots, bool) or shots < 1:
            raise ValueError(f"shots must be at least 1, not {shots}")
        worst = int(there[np.argmin(has[there])])
        if has[worst] < shots:
            raise TooFewImages(worst, shots, int(has[worst]), -1)
        return np.where(has > 0, shots, 0)
    assert share is not None, "checked by subset()"
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, not {share}")
    total = int(share * len(labels) + 1e-9)  # 12,811 and 128,116 of ImageNet, as SimCLR's lists
    if total < len(there):
        least = np.ceil(1e4 * len(there) / len(labels)) / 1e4
        raise ValueError(f"share {share} of {len(labels)} images is {total}, less than one of each "
                         f"of {len(there)} classes: set share to at least {least:g}")
    return _level(has, total)


def _level(has: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Counts that sum to `total`, equal as far as the classes have images; at most 1 apart."""
    low, high = 0, int(has.max(initial=0))
    while low < high:  # the largest level that fits
        level = (low + high + 1) // 2
        low, high = (level, high) if np.minimum(has, level).sum() <= total else (low, level - 1)
    counts = np.minimum(has, low)
    more = np.flatnonzero(has > low)[:total - int(counts.sum())]
    counts[more] += 1
    return counts


def _rank(pool: Pool, seed: int) -> NDArray[np.int64]:
    """Rank of each image in its class by the seed, new origins first; int64 (N,)."""
    order = np.random.default_rng([seed, STREAM]).permutation(len(pool))
    origin = pool.origin[order]
    alone = np.arange(len(order)) + origin.max(initial=0) + 1  # images of unknown origin
    _, group = np.unique(np.where(origin < 0, alone, origin), return_inverse=True)
    turn = ranks(group.astype(np.int64))  # 0: the first image of its origin
    order = order[np.argsort(turn, kind="stable")]
    out = np.empty(len(order), dtype=np.int64)
    out[order] = ranks(pool.labels[order])
    return out


def _listed(pool: Pool, rows: NDArray[np.int64], listed: lists.IndexList, file: str,
            names: Sequence[str] | None, missing: str) -> tuple[NDArray[np.int64], int]:
    """The rows that a list names, and how many of the list are absent."""
    if listed.ids is not None:
        wanted: set[Any] = set(listed.ids.tolist())
        own: list[Any] = pool.ids[rows].tolist()
    elif names is None:
        raise ValueError(f"list {file} names files, which this source does not have: set share or "
                         "shots")
    else:
        bare = not any("/" in name for name in listed.names or ())  # SimCLR's have no folder
        wanted = {lists.short(name) for name in listed.names or ()}
        own = [names[row].rpartition("/")[2] if bare else names[row] for row in rows]
    absent = len(wanted - set(own))
    if absent and missing == "error":
        raise ValueError(f"list {file} names {absent} images of {len(wanted)} that the training "
                         "set lacks: set data.options.holdout=false, or missing=skip to go on "
                         "without those held out")
    kept = rows[[name in wanted for name in own]]
    if not len(kept):
        raise ValueError(f"list {file} names no image of this training set: it is for other data")
    return kept, absent


def _fingerprint(positions: NDArray[np.int64], *rule: object) -> str:
    return digest("semi", REVISION, *rule, positions.astype("<i8").tobytes())
