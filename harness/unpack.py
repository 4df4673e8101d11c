"""Taking a pack apart without trusting it: names, kinds, sizes and checksums of its members."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

from .errors import UserError
from .store import KINDS, SUMS, sha256

# Every name that a pack may hold; nothing else is ever written.
NAMES = re.compile(
    r"pack\.json|SHA256SUMS|study/(study\.json|records\.parquet|per_class\.parquet|runs\.json)"
    rf"|store/({'|'.join(KINDS)})/([0-9a-f]{{2}})/\3[0-9a-f]{{62}}/[A-Za-z0-9][A-Za-z0-9_.-]{{0,99}}"
    r"|store/cards/[0-9a-f]{64}\.(json|png)")
MOST_FILES = 2_000_000


def unpack(file: Path, folder: Path, limit: int) -> list[str]:
    """Write the members of `file` below `folder` and check them; returns their names.

    `limit`: bytes that all of them may have. Raises UserError naming file and member for anything
    that no pack has: a link, a device, a path that leads elsewhere, a name twice, too much, a
    member that SHA256SUMS does not list or that does not match it.
    """
    try:
        names = _extract(file, folder, limit)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UserError(f"{file}: not readable as a pack ({error})") from None
    if "pack.json" not in names or SUMS not in names:
        raise UserError(f"{file}: is no pack (pack.json or {SUMS} is missing); make one with "
                        "harness.pack")
    _check(file, folder, names)
    return names


def _extract(file: Path, folder: Path, limit: int) -> list[str]:
    names: list[str] = []
    seen: set[str] = set()
    size = 0
    with tarfile.open(file, "r:") as tar:
        for member in tar:
            name = member.name
            if not member.isreg():
                raise UserError(f"{file}: '{name}' is a link, a folder or a device; a pack has "
                                "plain files only")
            if not NAMES.fullmatch(name):
                raise UserError(f"{file}: '{name[:200]}' is no name that a pack has")
            if name in seen:
                raise UserError(f"{file}: '{name}' is in it more than once")
            size += member.size
            if size > limit or len(names) > MOST_FILES:
                raise UserError(f"{file}: unpacks to more than {limit / 1e9:g} GB; raise limit_gb "
                                "if that is meant")
            source = tar.extractfile(member)
            assert source is not None  # a regular file
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            names.append(name)
            seen.add(name)
    return names


def _check(file: Path, folder: Path, names: list[str]) -> None:
    """Compare every member with the pack's own SHA256SUMS."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
        expected = {name: value for value, name in (line.split("  ", 1) for line in lines)}
    except ValueError:
        raise UserError(f"{file}: {SUMS} is damaged") from None
    for name in sorted(set(expected) ^ (set(names) - {SUMS})):
        said = "missing, but in" if name in expected else "not in"
        raise UserError(f"{file}: '{name}' is {said} its {SUMS}: damaged or changed by hand")
    for name, value in expected.items():
        if sha256(folder / name) != value:
            raise UserError(f"{file}: '{name}' does not match its {SUMS}: damaged or changed by "
                            "hand")
