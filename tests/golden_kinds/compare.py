"""Shared by the golden checks: registration by name pattern, comparison, stand-in networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from methods import options
from methods.base import Info, Method

Vector = Mapping[str, np.ndarray]
Check = Callable[[Vector], None]

# pattern of a file's stem -> the check; and the kinds that wait for code, with the reason
KINDS: dict[str, Check] = {}
PENDING: dict[str, str] = {}

RELATIVE_LOSS = 1e-5
ABSOLUTE_GRADIENT = 1e-5
ABSOLUTE_GRADIENT_COLD = 1e-4
COLD = 0.07


def kind(*patterns: str) -> Callable[[Check], Check]:
    """Register a check for every file whose whole stem matches one of the patterns."""

    def mark(check: Check) -> Check:
        KINDS.update(dict.fromkeys(patterns, check))
        return check

    return mark


def pending(reason: str, *patterns: str) -> None:
    """Say why the files that match have no check yet."""
    PENDING.update(dict.fromkeys(patterns, reason))


def tensor(array: np.ndarray) -> Tensor:
    """Return a copy of an array as a tensor of the same dtype."""
    return torch.from_numpy(np.array(array))


def leaf(array: np.ndarray) -> Tensor:
    """Return an array as a tensor that collects a gradient."""
    return tensor(array).requires_grad_()


def loss_is(actual: Tensor, expected: np.ndarray) -> None:
    """Check a loss to 1e-5 relative; 1e-6 absolute where the expected loss is 0."""
    np.testing.assert_allclose(
        actual.detach().numpy(), np.reshape(expected, ()), rtol=RELATIVE_LOSS, atol=1e-6
    )


def gradient_is(actual: Tensor | None, expected: np.ndarray, temperature: float = 1.0) -> None:
    """Check a gradient to 1e-5 absolute, or 1e-4 for T <= 0.07."""
    assert actual is not None
    loose = ABSOLUTE_GRADIENT_COLD if temperature <= COLD else ABSOLUTE_GRADIENT
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=loose)


def state_is(actual: Tensor, expected: np.ndarray) -> None:
    """Check a state after the step: equal, up to the rounding of its own precision."""
    close = 1e-12 if expected.dtype == np.float64 else 2e-6
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=close, atol=close)


class Columns(nn.Module):
    """Stands for a network in a test: its output is some columns of its input."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.range = slice(start, stop)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the columns."""
        return x[:, self.range]


def built(cls: type[Method], info: Mapping[str, Any] | None = None, **values: Any) -> Method:
    """Return a shipped method around an identity backbone, in double precision."""
    facts = {
        "num_images": 16,
        "num_classes": 4,
        "batch_size": 4,
        "total_steps": 10,
        "feature_dim": 8,
    } | dict(info or {})
    return cls(nn.Identity(), Info(**facts), options.build(cls.Config, values, "golden")).double()
