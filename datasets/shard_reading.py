"""What lies in one shard: the images of a tar, a zip or a folder, one after another."""

from __future__ import annotations

import functools
import os
import tarfile
import zipfile
from collections.abc import Callable, Generator
from pathlib import Path

IMAGES = (".jpg", ".jpeg", ".png", ".webp")


def is_image(name: str) -> bool:
    """Whether a member of a shard is an image, by the end of its name."""
    return name.lower().endswith(IMAGES)


def members(path: Path) -> Generator[tuple[str, Callable[[], bytes]], None, None]:
    """Name and reader of every image of a tar or zip, in its order, or of a folder, by name.

    A reader is good until the next member is asked for.
    """
    if path.is_dir():
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries if is_image(entry.name))
        yield from ((name, (path / name).read_bytes) for name in names)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as packed:
            yield from ((name, functools.partial(packed.read, name))
                        for name in packed.namelist() if is_image(name))
    else:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # it would grow
                if member.isfile() and is_image(member.name):
                    yield member.name, functools.partial(_extract, archive, member)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    assert stream is not None, member.name
    return stream.read()
