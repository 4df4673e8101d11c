"""Every golden vector below tests/golden, against the shipped code.

A file's kind is the pattern in `golden_kinds` that its whole stem matches; its parameters are read
from inside. A file of no known kind fails, a pending kind is an expected failure with its reason.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from golden_kinds import KINDS, PENDING

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.rglob("*.npz"))


def matching(stem: str, table: dict[str, object]) -> list[str]:
    """Return the patterns that match a whole stem."""
    return [pattern for pattern in table if re.fullmatch(pattern, stem)]


def case(file: Path) -> object:
    """Return one file as a test case, an expected failure if its kind is pending."""
    marks = []
    waits = matching(file.stem, PENDING)
    if waits and not matching(file.stem, KINDS):
        marks.append(pytest.mark.xfail(reason=PENDING[waits[0]], strict=True))
    return pytest.param(file, id=file.relative_to(FOLDER).with_suffix("").as_posix(), marks=marks)


def test_the_vectors_are_there() -> None:
    """The parametrised test below must not pass by finding nothing."""
    assert len(FILES) >= 100


def test_no_kind_is_both_checked_and_pending() -> None:
    """A file has one kind, and a check that exists is used."""
    for file in FILES:
        known = matching(file.stem, KINDS) + matching(file.stem, PENDING)
        assert len(known) <= 1, f"{file.name} is of several kinds: {known}"


@pytest.mark.parametrize("file", [case(file) for file in FILES])
def test_golden(file: Path) -> None:
    """The shipped code reproduces the recorded outputs of the official code."""
    found = matching(file.stem, KINDS)
    assert found, (
        f"{file.name}: no check for this kind of golden vector. Known kinds: {sorted(KINDS)};"
        " add one in tests/golden_kinds"
    )
    with np.load(file, allow_pickle=False) as archive:
        KINDS[found[0]](dict(archive))
