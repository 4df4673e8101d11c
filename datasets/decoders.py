"""Whole images from the bytes of files, for streams: Pillow, or a faster library if asked for.

Decoders differ by rounding, so a dataset that streams names its decoder and its fingerprint covers
it. `benchmarks/data.py` measures them.
"""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets.sources.resize import as_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

DECODERS = ("pil", "simplejpeg")
EXTRA = "pip install 'curation-gap[fast]'"


def missing(decoder: str) -> str | None:
    """One line if the decoder is unknown or not installed, else None."""
    if decoder not in DECODERS:
        return f"unknown decoder '{decoder}'. Available: {', '.join(DECODERS)}"
    if decoder != "pil" and importlib.util.find_spec(decoder) is None:
        return f"decoder '{decoder}' is not installed: {EXTRA}, or set data.options.decoder=pil"
    return None


def whole(data: bytes, limit: int, decoder: str = "pil") -> NDArray[np.uint8]:
    """uint8 (h, w, 3): the whole image, resized (bilinear, antialiased) if a side is over `limit`.

    Releases the interpreter while it decodes. Raises ValueError that says why there is no image.
    """
    try:
        if decoder == "simplejpeg" and data[:2] == b"\xff\xd8":
            return _fitted(Image.fromarray(_simplejpeg(data)), limit)
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (limit, limit))  # a JPEG is decoded at the nearest larger scale
            return _fitted(as_rgb(image), limit)
    except UnidentifiedImageError:
        raise ValueError("not an image" if data else "empty") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _simplejpeg(data: bytes) -> NDArray[np.uint8]:
    import simplejpeg

    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB")
    return pixels


def _fitted(image: Image.Image, limit: int) -> NDArray[np.uint8]:
    """Unchanged where it fits: `limit` is above the size of almost all images of ImageNet."""
    scale = limit / max(image.size)
    if scale < 1:
        width, height = image.size
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image)
