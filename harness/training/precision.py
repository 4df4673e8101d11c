"""Numeric precision of a stage, as a context around its forward passes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

PRECISIONS = ("fp32", "bf16")


def autocast(precision: str, device: str) -> AbstractContextManager[object]:
    """"bf16": convolutions and products in bfloat16 by autocast; "fp32": nothing changes.

    Raises ValueError for another name, naming the valid ones.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision '{precision}': choose one of {', '.join(PRECISIONS)}")
    if precision == "bf16":
        return torch.autocast(device, dtype=torch.bfloat16)
    return nullcontext()
