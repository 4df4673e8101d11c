"""One colour, marker and dash per method, the same in every figure and on every page.

The colours are those of Okabe and Ito, "Color universal design" (2008), darkened to at least 3:1
against white, so that they stay apart for colour-blind readers; the markers do it in grey print.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

INK, MUTED, GRID, PAPER = "#1f2328", "#636c76", "#d8dee4", "#ffffff"


@dataclass(frozen=True)
class Mark:
    """How a method is drawn: colour (hex), matplotlib marker, matplotlib dash pattern."""

    color: str
    marker: str
    dash: tuple[float, ...] = ()


METHODS = {
    "moclr": Mark("#0072b2", "o"), "dnc": Mark("#d55e00", "D"), "simclr": Mark("#008f68", "s"),
    "byol": Mark("#b8568f", "^"), "moco_v2": Mark("#b57f00", "v"), "fnc": Mark("#3490cf", "P"),
    "cld": Mark("#6f57b8", "X"), "npid": Mark("#8a6a42", "<"),
}
OTHERS = (
    Mark("#4d7a1f", ">"), Mark("#a3324a", "p"), Mark("#2f8f9d", "h"), Mark("#7d5ba6", "*"),
    Mark("#5c5c00", "d"), Mark("#c0603a", "8"),
)
REFERENCES = (
    Mark("#57606a", "o", (4.0, 2.0)), Mark("#57606a", "s", (1.0, 1.5)),
    Mark("#57606a", "^", (6.0, 1.5, 1.0, 1.5)), Mark("#57606a", "v", (2.5, 1.0)),
)
# A claim's verdict, in colours of methods: green, vermilion and grey are apart for everyone.
VERDICTS = {
    "supported": Mark(METHODS["simclr"].color, "o"), "inconclusive": Mark(MUTED, "s"),
    "contradicted": Mark(METHODS["dnc"].color, "X"),
}
REFERENCE_ORDER = ("supervised", "random_init", "raw_pixels")


def lighter(color: str, share: float = 0.38) -> str:
    """`color` mixed with white, for dark backgrounds."""
    parts = [int(color[i:i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def marks(methods: Iterable[str], references: Iterable[str] = ()) -> dict[str, Mark]:
    """Method id -> mark. A known method keeps its mark whatever else is drawn; an unknown one gets
    its mark from its name, and the next free one when two names meet."""
    chosen = {name: METHODS[_plain(name)] for name in methods if _plain(name) in METHODS}
    for name in methods:
        if name not in chosen:
            chosen[name] = _free(name, set(chosen.values()))
    for i, name in enumerate(references):
        place = REFERENCE_ORDER.index(name) if name in REFERENCE_ORDER else i + 3
        chosen[name] = REFERENCES[place % len(REFERENCES)]
    return chosen


def _plain(name: str) -> str:
    return {"mocov2": "moco_v2", "moco": "moco_v2"}.get(name.lower(), name.lower())


def _free(name: str, taken: set[Mark]) -> Mark:
    start = hashlib.sha256(name.encode()).digest()[0]
    order = [OTHERS[(start + i) % len(OTHERS)] for i in range(len(OTHERS))]
    free = [mark for mark in (*order, *METHODS.values()) if mark not in taken]
    return free[0] if free else order[0]
