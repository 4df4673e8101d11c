"""What each kind of golden vector checks: one function per kind, chosen by the file's name."""

from __future__ import annotations

from golden_kinds import cancellation, contrastive, grouping, optimisers, peers, protocols, waiting
from golden_kinds.compare import KINDS, PENDING

__all__ = [
    "cancellation",
    "KINDS",
    "PENDING",
    "contrastive",
    "grouping",
    "optimisers",
    "peers",
    "protocols",
    "waiting",
]
