"""Tar shards in WebDataset's layout: which images there are, in which order an epoch reads them.

Nothing here lists files or images: a range of shards is two numbers, and an epoch's order of them
is computed, not stored. So 10^8 images take the memory of one shuffle window.

    <key>.jpg|jpeg|png|webp   the image, and perhaps <key>.cls with its label

The order of an epoch: the shards in an order of their own (seed, epoch), their images one after
another, cut into `lanes` equal runs; what a lane reads is shuffled in windows. A batch takes as
many images of every lane, and a rank has its share of the lanes: so the batches do not depend on
the number of ranks, ranks never read the same image, and an image comes once in an epoch. The tail
rule: the last `images % batch` images of an epoch's order are left out of it, another few in
every epoch, so that no batch spans two epochs. All of it is a function of (seed, epoch, step): that
is the whole state.
"""

from __future__ import annotations

import contextlib
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datasets.messages import DatasetError
from datasets.shard_reading import IMAGES as IMAGES
from datasets.shard_reading import members

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from numpy.typing import NDArray

MANIFEST = "shards.json"
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
ROUNDS = 8  # of the permutation; with 4, neighbours stay together 1.25 times too often at n = 64


class Sample(NamedTuple):
    """An image that is not decoded yet: its position in the listing, its name, its file's bytes."""

    number: int
    key: str
    data: bytes


@dataclass(frozen=True, eq=False)
class Listing:
    """Shards `first`, `first` + 1, ... of a template, and how many images each holds.

    template: a path with one place for the number; images: in all; per_shard: images of every shard
    but the last, or None where `counts`, int64 (shards,), says it; rows: ascending positions of the
    images that are wanted, None for all of them (their own positions then count from 0).
    """

    template: str
    first: int
    images: int
    per_shard: int | None
    counts: NDArray[np.int64] | None = None
    rows: NDArray[np.int64] | None = None

    @property
    def shards(self) -> int:
        """How many shards there are."""
        if self.counts is not None:
            return len(self.counts)
        assert self.per_shard is not None
        return -(-self.images // self.per_shard)

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return Path(self.template.format(self.first + shard))

    def ends(self) -> NDArray[np.int64] | None:
        """One past the last position of each shard, int64 (shards,); None where all are alike."""
        return None if self.counts is None else np.cumsum(self.counts)

    def start(self, shard: int) -> int:
        """The position of a shard's first image."""
        if self.counts is None:
            assert self.per_shard is not None
            return min(shard * self.per_shard, self.images)
        return int(self.counts[:shard].sum())

    def count(self, shard: int) -> int:
        """How many of a shard's images are in the listing."""
        if self.counts is None:
            return self.start(shard + 1) - self.start(shard)
        return int(self.counts[shard])

    def head(self, images: int) -> Listing:
        """The first `images` of this listing."""
        if self.counts is None:
            return replace(self, images=images)
        ends = np.cumsum(self.counts)
        counts = np.diff(np.minimum(ends, images), prepend=0)
        return replace(self, images=images, counts=counts[:int(np.searchsorted(ends, images)) + 1])

    def at(self, rows: NDArray[np.int64]) -> Listing:
        """The images at these ascending positions, numbered from 0."""
        assert self.rows is None and bool((np.diff(rows) > 0).all()), "ascending, chosen once"
        if self.counts is None:
            assert self.per_shard is not None
            edges = np.minimum(np.arange(self.shards + 1) * self.per_shard, self.images)
        else:
            edges = np.concatenate([[0], np.cumsum(self.counts)])
        counts = np.diff(np.searchsorted(rows, edges))
        full = replace(self, rows=None)
        return _Chosen(self.template, self.first, len(rows), None, counts, rows, full)

    def places(self, shard: int) -> NDArray[np.int64] | None:
        """Which of the shard's images are in the listing, by their place in the file; None: all."""
        return None


@dataclass(frozen=True, eq=False)
class _Chosen(Listing):
    """Some images of another listing."""

    whole: Listing | None = None

    def path(self, shard: int) -> Path:
        """As in the whole listing, whose shards may have names of their own."""
        assert self.whole is not None
        return self.whole.path(shard)

    def places(self, shard: int) -> NDArray[np.int64] | None:
        assert self.whole is not None and self.rows is not None
        start = self.start(shard)
        return self.rows[start:start + self.count(shard)] - self.whole.start(shard)


def parse(spec: str | Path, images: int | None = None, per_shard: int | None = None) -> Listing:
    """The listing of 'FOLDER/name-{000000..099999}.tar' with declared numbers of images.

    images: in all; per_shard: of every shard but the last, default: evenly. Raises DatasetError
    where they do not fit together.
    """
    text = str(spec)
    found = RANGE.findall(text)
    if len(found) != 1 or int(found[0][0]) > int(found[0][1]):
        raise DatasetError([f"'{text}' is no range of shards: write it as "
                            "FOLDER/name-{000000..000099}.tar, with one pair of braces"])
    low, high = found[0]
    shards = int(high) - int(low) + 1
    if images is None:
        raise DatasetError([f"how many images do the {shards} shards of '{text}' hold? They are "
                            "never listed: set data.options.images=NUMBER"])
    per_shard = -(-images // shards) if per_shard is None else per_shard
    if -(-images // per_shard) != shards:
        raise DatasetError([f"{images} images in shards of {per_shard} are "
                            f"{-(-images // per_shard)} shards, '{text}' names {shards}: correct "
                            "data.options.images or data.options.per_shard"])
    width = len(low) if low.startswith("0") else 1
    escaped = text.replace("{", "{{").replace("}", "}}")
    template = escaped.replace(f"{{{{{low}..{high}}}}}", f"{{:0{width}d}}")
    return Listing(template, int(low), images, per_shard)


def manifest(folder: Path) -> dict[str, Any]:
    """What `shard_writing` noted of the shards of a split. Raises DatasetError if unreadable."""
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        assert found["version"] == 1 and isinstance(found["counts"], list)
        return found
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise DatasetError([f"{folder / MANIFEST} cannot be read ({error or 'another version'}): "
                            "write the shards again (pack=shards)"]) from None


def written(folder: Path) -> Listing:
    """The listing of shards that `shard_writing` has made."""
    facts = manifest(folder)
    counts = np.array(facts["counts"], dtype=np.int64)
    return Listing(str(folder / facts["template"]), 0, int(counts.sum()), None, counts)


class Shuffled:
    """A random order of n things, computed, not stored: a Feistel network with cycle walking.

    `self(i)` is the i-th thing and `self.place(x)` where x comes; int64 arrays.
    """

    def __init__(self, n: int, *seed: int) -> None:
        self.n = n
        self._half = max(1, ((max(n - 1, 1)).bit_length() + 1) // 2)
        self._keys = np.random.default_rng([*seed, 0xFE157E]).integers(
            0, 1 << 62, ROUNDS, dtype=np.uint64)

    def __call__(self, i: NDArray[np.int64] | int) -> NDArray[np.int64]:
        return self._walk(i, self._keys, forward=True)

    def place(self, x: NDArray[np.int64] | int) -> NDArray[np.int64]:
        """The inverse of the order."""
        return self._walk(x, self._keys[::-1], forward=False)

    def _walk(self, value: NDArray[np.int64] | int, keys: NDArray[np.uint64], *,
              forward: bool) -> NDArray[np.int64]:
        out = self._once(np.atleast_1d(np.asarray(value, dtype=np.uint64)), keys, forward=forward)
        while (outside := out >= self.n).any():  # the domain is at most 4 n: few turns
            out[outside] = self._once(out[outside], keys, forward=forward)
        return out.astype(np.int64)

    def _once(self, value: NDArray[np.uint64], keys: NDArray[np.uint64], *,
              forward: bool) -> NDArray[np.uint64]:
        half = np.uint64(self._half)
        mask = np.uint64((1 << self._half) - 1)
        left, right = value >> half, value & mask
        for key in keys:
            if forward:
                left, right = right, left ^ (_mix(right ^ key) & mask)
            else:
                left, right = right ^ (_mix(left ^ key) & mask), left
        return (left << half) | right


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Order:
    """The shards in the order of one epoch, as one line of images."""

    def __init__(self, listing: Listing, seed: int, epoch: int) -> None:
        self.listing = listing
        self._shuffled = Shuffled(listing.shards, seed, epoch)
        self._ends: NDArray[np.int64] | None = None
        if listing.counts is not None:
            self._ends = np.cumsum(listing.counts[self._shuffled(np.arange(listing.shards))])
        else:  # all alike but the last shard, which comes somewhere in the middle
            self._odd = int(self._shuffled.place(listing.shards - 1)[0])

    def shard(self, place: int) -> int:
        """The shard that comes `place`-th."""
        return int(self._shuffled(place)[0])

    def find(self, position: int) -> tuple[int, int]:
        """The place of the shard that holds the position-th image of the epoch, and where in it."""
        if self._ends is not None:
            place = int(np.searchsorted(self._ends, position, side="right"))
            return place, position - (int(self._ends[place - 1]) if place else 0)
        per = self.listing.per_shard
        assert per is not None
        gap = per - self.listing.count(self.listing.shards - 1)
        begin = self._odd * per
        if position >= begin + per - gap:
            position += gap
        return divmod(position, per)

    def read(self, position: int, stop: int) -> Iterator[Sample]:
        """The images from `position` to `stop` of the epoch, shard by shard."""
        place, offset = self.find(position)
        while position < stop:
            shard = self.shard(place)
            count = min(self.listing.count(shard) - offset, stop - position)
            yield from read(self.listing, shard, offset, offset + count)
            position, place, offset = position + count, place + 1, 0


def read(listing: Listing, shard: int, start: int, stop: int) -> Iterator[Sample]:
    """Images `start` to `stop` of a shard (of those in the listing), read sequentially.

    Raises DatasetError for a shard that is missing, damaged or has fewer images than declared.
    """
    if start >= stop:
        return
    path, first, places = listing.path(shard), listing.start(shard), listing.places(shard)
    wanted = range(start, stop) if places is None else places[start:stop].tolist()
    upcoming, number = iter(wanted), first + start
    target = next(upcoming)
    try:
        with contextlib.closing(members(path)) as found:
            for place, (name, content) in enumerate(found):
                if place != target:
                    continue
                yield Sample(number, f"{path.name}/{name}", content())
                number += 1
                if (target := next(upcoming, -1)) < 0:
                    return
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DatasetError([f"shard {path} cannot be read ({cause}): fetch or write it "
                            "again"]) from None
    raise DatasetError([f"shard {path} has {number - first} images that are wanted, "
                        f"{listing.count(shard)} are declared: it is cut short, or "
                        "data.options.images and per_shard are wrong"])


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several processes reads.

    batch: images over all of them; lanes: runs that an epoch is cut into, of which process `rank`
    of `world` reads lanes / world; window: images that a lane shuffles at a time, at least.
    """

    batch: int
    lanes: int
    rank: int = 0
    world: int = 1
    window: int = 256

    def __post_init__(self) -> None:
        if self.batch % self.lanes or self.lanes % self.world:
            raise DatasetError([
                f"a batch of {self.batch} images from {self.lanes} lanes on {self.world} "
                "processes: lanes must divide the batch and be a multiple of the processes (set "
                "data.options.lanes)"])

    @property
    def each(self) -> int:
        """Images of a batch that come from one lane."""
        return self.batch // self.lanes

    @property
    def block(self) -> int:
        """Images of a window: whole batches of one lane."""
        return -(-self.window // self.each) * self.each

    @property
    def own(self) -> range:
        """The lanes of this process."""
        number = self.lanes // self.world
        return range(self.rank * number, (self.rank + 1) * number)


class Epoch:
    """The batches of one epoch for one process, from any step on."""

    def __init__(self, listing: Listing, share: Share, seed: int, epoch: int) -> None:
        """Raise DatasetError where the listing has less than a batch."""
        self.share, self._key = share, (seed, epoch)
        self.steps = listing.images // share.batch
        if not self.steps:
            raise DatasetError([f"a batch of {share.batch} images from {listing.images}: lower the "
                                "batch size"])
        self._order = Order(listing, seed, epoch)

    def batches(self, step: int = 0, ahead: Executor | None = None) -> Iterator[list[Sample]]:
        """Our samples of the batches from `step` on, lane by lane.

        With an executor the next window is read while one is used: memory then holds two.
        """
        each, block = self.share.each, self.share.block
        at, windows = step * each % block, self._windows(step)
        coming = ahead.submit(next, windows, None) if ahead else None
        while (shuffled := coming.result() if coming else next(windows, None)) is not None:
            coming = ahead.submit(next, windows, None) if ahead else None
            for begin in range(at, len(shuffled[0]), each):
                yield [sample for lane in shuffled for sample in lane[begin:begin + each]]
            at = 0

    def _windows(self, step: int) -> Iterator[list[list[Sample]]]:
        """The shuffled window of each of our lanes, from the one that `step` lies in on."""
        share = self.share
        run = self.steps * share.each
        first = step * share.each // share.block * share.block
        lines = [self._order.read(lane * run + first, (lane + 1) * run) for lane in share.own]
        for start in range(first, run, share.block):
            count = min(share.block, run - start)
            yield [self._window(line, lane, start, count)
                   for lane, line in zip(share.own, lines, strict=True)]

    def _window(self, line: Iterator[Sample], lane: int, start: int, count: int) -> list[Sample]:
        samples = [next(line) for _ in range(count)]
        order = np.random.default_rng([*self._key, lane, start]).permutation(count)
        return [samples[i] for i in order]
