"""Checkpoints of a running stage: one file, written atomically, read without unpickling code."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

NAME = "checkpoint.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint of `folder` by `state` (tensors, numbers, strings and containers).

    The new file is complete on disk before it takes the old one's name, so a kill at any moment
    leaves one of the two whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{NAME}.{os.getpid()}.tmp"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / NAME)
    _sync_folder(folder)


def load(folder: Path, identity: str) -> dict[str, Any] | None:
    """The checkpoint of `folder` on the CPU, or None where there is none.

    Raises ValueError if it was written by other work than `identity`. A damaged file (a disk
    fault: `save` leaves none) is named in a warning and None is returned: work is lost, not
    results.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        warnings.warn(f"{path}: damaged checkpoint, starting again ({type(error).__name__})",
                      stacklevel=2)
        return None
    if state.get("identity") != identity:
        raise ValueError(f"{path}: the checkpoint belongs to another stage: remove the file")
    return state


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
