"""RandAugment's two flavours as data, each number with its source. No torch.

Lengths are shares of the side, so that a policy written for 224 pixels holds at every size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


@dataclass(frozen=True)
class Level:
    """The amount of an operation: linear from magnitude 0 to magnitude 10.

    whole: cut to a whole number; signed: negative for half of the images.
    """

    at_0: float = 0.0
    at_10: float = 0.0
    whole: bool = False
    signed: bool = False


@dataclass(frozen=True)
class Policy:
    """Which operations, how many, how strong.

    levels: operation -> its amount, all equally likely, drawn with replacement `layers` times;
    probability: of each drawn operation being done; magnitude, deviation: of a normal distribution
    clipped to 0..10; fill: colour of what comes from outside the image, 0..255; interpolation: of
    the geometric operations, one of them at random for each image; after_blur: whether the policy
    runs after the blur, with grey last, or after the colour jitter, with grey and blur later;
    contrast_about: the grey level that contrast scales about, None: the mean grey of the image.
    """

    levels: Mapping[str, Level]
    layers: int
    magnitude: float
    deviation: float
    probability: float
    fill: tuple[int, int, int]
    interpolation: tuple[str, ...]
    after_blur: bool
    contrast_about: int | None = None


_NONE = Level()
_ENHANCE = Level(0.1, 1.9)
# The operations that both flavours share, at the same levels (tensorflow/tpu,
# models/official/efficientnet/autoaugment.py; InfoMin's is a port of it to PIL).
_SHARED: dict[str, Level] = {
    "autocontrast": _NONE,
    "equalize": _NONE,
    "invert": _NONE,
    "rotate": Level(0.0, 30.0, signed=True),  # degrees
    "posterize": Level(0.0, 4.0, whole=True),  # bits that are kept
    "solarize": Level(0.0, 256.0, whole=True),  # threshold
    "solarize_add": Level(0.0, 110.0, whole=True),
    "color": _ENHANCE,
    "contrast": _ENHANCE,
    "brightness": _ENHANCE,
    "sharpness": _ENHANCE,
    "shear_x": Level(0.0, 0.3, signed=True),
    "shear_y": Level(0.0, 0.3, signed=True),
}


def _shift(share: float) -> dict[str, Level]:
    return {name: Level(0.0, share, signed=True) for name in ("translate_x", "translate_y")}


POLICIES: dict[str, Policy] = {
    # google-research/fnc, data_util.py: distort_image_with_randaugment(image, 2, 7), always done:
    # rotate 21 degrees, posterize to 2 bits, solarize at 179 or add 77, factors 1.36, shear .21,
    # translate 70 of 224 px, a cut of 2 x 28 of 224 px. Nearest neighbour: contrib's default.
    # Contrast: the released code divides the number of pixels, not the sum of grey levels, by 256;
    # at 224 px that is the constant 196, which is kept here at every size.
    "fnc": Policy(
        levels={**_SHARED, **_shift(100 / 224), "cutout": Level(0.0, 40 / 224)},
        layers=2, magnitude=7.0, deviation=0.0, probability=1.0, fill=(128, 128, 128),
        interpolation=("nearest",), after_blur=False, contrast_about=196),
    # HobbitLong/PyContrast, datasets/RandAugment.py with rand-n2-m10-mstd0.5, and CLD's copy of it:
    # fifteen operations, fill with ImageNet's mean, interpolation by chance. PIL's bicubic kernel
    # has a = -0.5, the engine's -0.75.
    "infomin": Policy(
        levels={**_SHARED, **_shift(0.45)},
        layers=2, magnitude=10.0, deviation=0.5, probability=0.5, fill=(124, 116, 104),
        interpolation=("bilinear", "bicubic"), after_blur=True),
}
