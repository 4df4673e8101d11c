"""Second moments of a batch of embeddings."""

from __future__ import annotations

from torch import Tensor


def off_diagonal(matrix_DD: Tensor) -> Tensor:
    """Return the D (D - 1) entries beside the diagonal, as one vector."""
    size = len(matrix_DD)
    return matrix_DD.flatten()[:-1].view(size - 1, size + 1)[:, 1:].flatten()
