"""Learning rates as functions of the step, one per step (no torch)."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int, int, int, float], float]


def cosine(step: int, total: int, warmup: int, base: float) -> float:
    """Linear warm-up from 0, then cosine to 0 at `total`: BYOL, SimCLR, FNC and DnC.

    Source: deepmind-research/byol/utils/schedules.py; google-research/fnc model_util.py.
    """
    if step < warmup:
        return base * step / warmup
    return base * _half_cosine(step, total, warmup)


def cosine_cld(step: int, total: int, warmup: int, base: float) -> float:
    """CLD's cosine: warm-up from base / 100, floor 1e-6.

    Source: frank-xwang/CLD-UnsupervisedLearning, lib/lr_scheduler.py.
    """
    if step <= warmup and warmup:
        return base / 100 * (99 * step / warmup + 1)
    return 1e-6 + (base - 1e-6) * _half_cosine(step, total, warmup)


def constant(step: int, total: int, warmup: int, base: float) -> float:
    """Linear warm-up from 0, then `base`."""
    return base * step / warmup if step < warmup else base


SCHEDULES: dict[str, Schedule] = {
    "cosine": cosine, "cosine_cld": cosine_cld, "constant": constant,
}


def learning_rate(schedule: str, step: int, total: int, warmup: int, base: float) -> float:
    """The rate of `step` (0-based) of `total` steps, the first `warmup` of them warming up.

    Raises ValueError for an unknown schedule, naming the valid ones.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule '{schedule}': choose one of "
                         f"{', '.join(sorted(SCHEDULES))}")
    return SCHEDULES[schedule](step, total, warmup, base)


def num_steps(epochs: float, num_images: int, batch_size: int) -> int:
    """Updates of a run: its passes over the images in full batches, at least one.

    (BYOL's step count, epochs * images // batch, rounds down; SimCLR's and FNC's adds one.)
    """
    return max(1, round(epochs * num_images / batch_size))


def num_warmup_steps(epochs: float, num_images: int, batch_size: int, total: int) -> int:
    """Warm-up updates, floor(epochs * images / batch) as in BYOL, never more than `total`."""
    return min(total, int(epochs * num_images // batch_size))


def _half_cosine(step: int, total: int, warmup: int) -> float:
    """From 1 at the end of the warm-up to 0 at `total`."""
    if step >= total:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
