"""One seed per purpose, derived from the stage's seed; the same on every machine (no torch)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

Seed = int | Sequence[int]


def derive(seed: Seed, purpose: str) -> int:
    """A seed in [0, 2**63) for `purpose`; `seed` is an integer or (seed, replica).

    SHA-256, since Python's hash changes from process to process.
    """
    digest = hashlib.sha256(f"{json.dumps(seed)}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
