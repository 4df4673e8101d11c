"""From the bytes of an image file to pixels: the one place where files are decoded."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets.sources.resize import square

if TYPE_CHECKING:
    from numpy.typing import NDArray


def decode(data: bytes, side: int) -> NDArray[np.uint8]:
    """uint8 (side, side, 3): shorter side resized, centre crop, RGB.

    Raises ValueError that says in words why there is no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (side, side))  # a JPEG is decoded at the nearest larger scale
            return np.asarray(square(image, side))
    except UnidentifiedImageError:
        raise ValueError("not an image" if data else "empty") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
