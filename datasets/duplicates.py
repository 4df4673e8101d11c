"""Near duplicates: small deterministic changes of an image, given (seed, index, copy)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 6  # brightness moves by at most this many of 256 grey levels
NOISE = 2.0  # standard deviation of the pixel noise, grey levels


def near_duplicates(pixels: NDArray[np.uint8], index: NDArray[np.int64],
                    copy: NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
    """Replace every image whose copy number is not 0 by that near duplicate of it.

    A shift by up to an eighth of the side (reflected at the border), a brightness change of up to
    6 grey levels and pixel noise of 2. pixels: uint8 (n, H, W, 3); index, copy: int64 (n,).
    """
    changed = np.flatnonzero(copy)
    if len(changed) == 0:
        return pixels
    out = pixels.copy()
    for row in changed:
        # A generator per (seed, image, copy): the same duplicate whatever else is selected.
        rng = np.random.default_rng([seed, int(index[row]), int(copy[row])])
        out[row] = _jittered(pixels[row], rng)
    return out


def _jittered(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One near duplicate of one image (H, W, 3)."""
    height, width = image.shape[:2]
    reach_y, reach_x = max(height // 8, 1), max(width // 8, 1)
    y, x = rng.integers(0, 2 * reach_y + 1), rng.integers(0, 2 * reach_x + 1)
    padded = np.pad(image, ((reach_y, reach_y), (reach_x, reach_x), (0, 0)), mode="reflect")
    moved = padded[y:y + height, x:x + width].astype(np.float32)
    moved += rng.integers(-LEVELS, LEVELS + 1)
    moved += rng.normal(0, NOISE, size=moved.shape)
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8)


def shifts(free: NDArray[np.int64], index: NDArray[np.int64], copy: NDArray[np.int64],
           seed: int) -> NDArray[np.int64]:
    """Offsets (dy, dx) of the near duplicates of windows that can move inside a picture.

    free: int64 (n, 4), pixels of room above, below, left and right. Returns int64 (n, 2); copy 0
    does not move, and copies of one window are distinct until its possible moves are used up.
    """
    out = np.zeros((len(index), 2), dtype=np.int64)
    for row in np.flatnonzero(copy):
        up, down, left, right = (int(v) for v in free[row])
        moves = [(y, x) for y in range(-up, down + 1) for x in range(-left, right + 1) if y or x]
        if moves:
            order = np.random.default_rng([seed, int(index[row])]).permutation(len(moves))
            out[row] = moves[order[(int(copy[row]) - 1) % len(moves)]]
    return out
