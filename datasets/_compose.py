"""Images made of more than one image, or of more than one source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasets.controls.spurious import BLANK, OWN
from datasets.types import Images

if TYPE_CHECKING:
    from numpy.typing import NDArray


def halves(images: Images, partners: Images, partner: NDArray[np.int64]) -> Images:
    """Right halves of the partners where there is one; the left half black where it is BLANK.

    partner: int64 (n,) as in `Selection`. The left half has the smaller part of an odd width.
    """
    pixels = np.array(images.pixels)
    cut = pixels.shape[2] // 2
    given = np.flatnonzero(partner > OWN)
    pixels[given, :, cut:] = np.asarray(partners.pixels[given])[:, :, cut:]
    pixels[partner == BLANK, :, :cut] = 0
    return Images(pixels, images.labels, images.origin, images.class_names)


def joined(own: Images, foreign: Images) -> Images:
    """Both, the foreign images last, without labels, their origins numbered after the own ones."""
    shift = int(own.origin.max(initial=-1)) + 1
    origin = np.where(foreign.origin < 0, -1, foreign.origin + shift)
    return Images(np.concatenate([np.asarray(own.pixels), np.asarray(foreign.pixels)]),
                  np.concatenate([own.labels, np.full(len(foreign), -1)]),
                  np.concatenate([own.origin, origin]), own.class_names)
