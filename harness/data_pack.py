"""Decode a source once, or write it as shards; `python -m harness.data ... pack=...` comes here.

    python -m harness.data dataset=cifar10 path=FOLDER pack=true
    python -m harness.data dataset=folder path=DIR image_size=64 options.on_corrupt=skip pack=true
    python -m harness.data dataset=imagenet path=FOLDER image_size=224 pack=shards out=FOLDER

pack=true makes one memory-mapped file of each split in <results>/packs (or cache=FOLDER), which
every later run of the source opens in milliseconds; a pack that is there is checked byte by byte.
pack=shards writes the splits as WebDataset tar files of per_shard images (1000) in random order to
out=FOLDER, still compressed; read them with dataset=shards path=FOLDER. Both continue where they
were interrupted. Files that cannot be read are named, and skipped only with
options.on_corrupt=skip.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from .arguments import RESULTS, wants_help
from .errors import Failure, Problems, UserError, unknown

DEFAULTS = {"pack": "", "cache": "", "results": RESULTS, "out": "", "per_shard": "1000"}
KINDS = ("true", "shards")


def wanted(arguments: list[str]) -> bool:
    """Whether a command line of harness.data asks for packing."""
    return any(argument.startswith("pack=") for argument in arguments)


def main(arguments: list[str]) -> int:
    """Pack one source."""
    if wants_help(arguments):
        print(__doc__)
        return 0
    from .data import read

    own = {argument.partition("=")[0]: argument.partition("=")[2] for argument in arguments
           if argument.partition("=")[0] in DEFAULTS}
    options = {**DEFAULTS, **own}
    spec, _ = read([a for a in arguments if a.partition("=")[0] not in DEFAULTS])
    if options["pack"] not in KINDS:
        raise unknown("value of pack", options["pack"], KINDS, "harness.data")
    if not options["per_shard"].isdigit() or options["per_shard"] == "0":
        raise UserError(f"harness.data: per_shard must be a whole number of at least 1, not "
                        f"'{options['per_shard']}'")
    import datasets

    try:
        resolved = datasets.resolve(spec)
        datasets.prepare(spec)
        (_pack if options["pack"] == "true" else _shard)(resolved, spec.get("path"), options)
    except datasets.DatasetError as error:
        raise Problems(error.problems) from None
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    except BlockingIOError as error:
        raise Failure(str(error)) from None
    return 0


def _pack(resolved: dict[str, Any], path: Any, options: dict[str, str]) -> None:
    from datasets import packing

    cache = Path(options["cache"] or Path(options["results"], "packs"))
    began = time.monotonic()
    made = packing.pack(resolved, cache, path, _Shown())
    header = made.header
    images = ", ".join(f"{split} {count}" for split, count in header["images"].items())
    size = sum(p.stat().st_size for p in made.folder.iterdir())
    print(f"pack: {images} images, side {header['side'] or 'as the source'}, {size / 1e6:.1f} MB, "
          f"checked, {time.monotonic() - began:.1f} s")
    _skipped(header["skipped"])
    print(f"folder: {made.folder}")


def _shard(resolved: dict[str, Any], path: Any, options: dict[str, str]) -> None:
    from datasets import shard_writing

    if not options["out"]:
        raise UserError("harness.data: pack=shards needs a folder to write to: out=FOLDER")
    made = shard_writing.write(resolved, Path(options["out"]), path, int(options["per_shard"]),
                               _Shown())
    for split, facts in made.items():
        print(f"shards: {split} {facts['images']} images in {facts['shards']} files")
        _skipped(facts["skipped"])
    print(f"folder: {options['out']}  (dataset=shards path={options['out']})")


def _skipped(names: list[str]) -> None:
    """Count and list what was left out."""
    if names:
        print(f"skipped: {len(names)} files that are no readable images")
    for name in names:
        print(f"  {name}")


class _Shown:
    """Progress on one line of a terminal, at most ten times a second."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, split: str, done: int, total: int) -> None:
        if not sys.stderr.isatty() or (time.monotonic() - self._last < 0.1 and done < total):
            return
        self._last = time.monotonic()
        print(f"\r{split}: {done} of {total} ", end="\n" if done >= total else "", file=sys.stderr)
