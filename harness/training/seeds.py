"""One seed per purpose, derived from the stage's seed; the same on every machine (no torch)."""

from __future__ import annotations

import hashlib


def derive(seed: int, purpose: str) -> int:
    """A seed in [0, 2**63) for `purpose`. SHA-256, since Python's hash changes per process."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
