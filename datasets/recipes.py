"""Augmentation recipes as data, each number with its source. No torch, so planning can read them.

`View` says how one view of an image is made; datasets/views.py makes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets.messages import unknown
from datasets.randaugment import POLICIES

COLOURS = ("matrix", "sequential")
RULES = ("torchvision", "byol")
RANDAUGMENT = ("none", *POLICIES)


@dataclass(frozen=True)
class View:
    """How one view is made. The steps are applied in the order of the fields below.

    crop_min, crop_max: area of the crop as a share of the image, uniform; aspect: the ratio of its
    sides is log-uniform in 1/aspect..aspect (crop_min = crop_max = aspect = 1: no crop).
    flip: probability of a horizontal flip. jitter_p: probability of the colour jitter, with
    brightness, contrast, saturation, hue its strengths (factor in 1 +- strength; hue in turns).
    randaugment: a policy of datasets/randaugment.py; 'infomin' comes between blur and grey.
    gray: probability of grey. blur_p, sigma: probability and range of the standard deviation (px)
    of a Gaussian blur over a tenth of the side. solarize_p: probability of inverting values of 0.5
    and above. erase_p: probability of one erased rectangle (2 to 33 % of the area).
    colour: 'matrix' does the jitter as one 3x3 matrix per image, hue as a rotation in YIQ, no
    clipping: fast, and an augmentation of its own; 'sequential' does the four steps in random
    order, clipped after each, hue in HSV. rule: 'torchvision' or 'byol' (additive brightness,
    contrast about each channel's own mean, saturation in HSV), for 'sequential' only.
    size: side of the view as a share of the run's image size, None: the image size. grid: above 1
    the finished view is cut into grid x grid cells, and a random square of `patch` of the cell's
    side is taken from each: (B, grid^2, 3, side, side).
    """

    crop_min: float = 1.0
    crop_max: float = 1.0
    aspect: float = 1.0
    flip: float = 0.0
    jitter_p: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    randaugment: str = "none"
    gray: float = 0.0
    blur_p: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.0
    erase_p: float = 0.0
    colour: str = "matrix"
    rule: str = "torchvision"
    size: float | None = None
    grid: int = 1
    patch: float = 1.0

    def __post_init__(self) -> None:
        if problems := list(_problems(self)):
            raise ValueError("; ".join(problems))


def _problems(view: View) -> list[str]:
    """One line per value that is out of range."""
    found = [f"{name} is a probability: {getattr(view, name)} is not in 0..1"
             for name in ("flip", "jitter_p", "gray", "blur_p", "solarize_p", "erase_p")
             if not 0 <= getattr(view, name) <= 1]
    if not 0 < view.crop_min <= view.crop_max <= 1:
        found.append(f"crop needs 0 < crop_min <= crop_max <= 1, not {view.crop_min}, "
                     f"{view.crop_max}")
    if not view.aspect >= 1:
        found.append(f"aspect must be at least 1, not {view.aspect}")
    found += [f"{name} must be at least 0, not {getattr(view, name)}"
              for name in ("brightness", "contrast", "saturation") if getattr(view, name) < 0]
    if not 0 <= view.hue <= 0.5:
        found.append(f"hue is in turns, 0..0.5, not {view.hue}")
    if not 0 < view.sigma[0] <= view.sigma[1]:
        found.append(f"sigma needs 0 < low <= high, not {view.sigma}")
    if view.colour not in COLOURS:
        found.append(unknown("colour", view.colour, COLOURS))
    if view.rule not in RULES:
        found.append(unknown("rule", view.rule, RULES))
    if view.randaugment not in RANDAUGMENT:
        found.append(unknown("randaugment", view.randaugment, RANDAUGMENT))
    if view.size is not None and not 0 < view.size <= 4:
        found.append(f"size is a share of the image size, above 0 and at most 4, not {view.size}")
    if view.grid != int(view.grid) or view.grid < 1:
        found.append(f"grid is a whole number of cells, at least 1, not {view.grid}")
    if not 0 < view.patch <= 1:
        found.append(f"patch is a share of a cell, above 0 and at most 1, not {view.patch}")
    return found


def side_of(view: View, image_size: int) -> int:
    """Side of the view in pixels, before it is cut into cells: at least 1, a multiple of `grid`."""
    share = 1.0 if view.size is None else view.size
    return max(1, round(image_size * share / view.grid)) * int(view.grid)


def patch_of(view: View, image_size: int) -> int:
    """Side in pixels of what is taken from each cell; the view's side where it is not cut."""
    return max(1, round(side_of(view, image_size) / view.grid * view.patch))


def _jitter(strength: float, saturation: float, hue: float, p: float = 0.8) -> dict[str, Any]:
    return {"jitter_p": p, "brightness": strength, "contrast": strength,
            "saturation": saturation, "hue": hue}


_CROP: dict[str, Any] = {"crop_min": 0.08, "aspect": 4 / 3, "flip": 0.5}
# MoCo crops keep at least a fifth (facebookresearch/moco, main_moco.py).
_MOCO: dict[str, Any] = {"crop_min": 0.2, "aspect": 4 / 3, "flip": 0.5, "gray": 0.2}
# DnC Table 12 and byol/utils/augmentations.py; T and T' differ in blur and solarisation.
_BYOL: dict[str, Any] = {**_CROP, **_jitter(0.4, 0.2, 0.1), "gray": 0.2, "rule": "byol"}
# The same numbers on PIL images, with torchvision's meaning of brightness, contrast, saturation.
_PIL: dict[str, Any] = {**_BYOL, "rule": "torchvision"}
# SimCLR, Appendix A: jitter (.8, .8, .8, .2) of strength 1, blur p .5
_SIMCLR: dict[str, Any] = {**_CROP, **_jitter(0.8, 0.8, 0.2), "gray": 0.2, "blur_p": 0.5}

RECIPES: dict[str, View] = {
    # whole image, normalised: what evaluations see
    "plain": View(),
    # crop and flip, the usual training of classifiers
    "supervised": View(**_CROP),
    "simclr": View(**_SIMCLR),
    # SimCLR, Appendix B.9: on CIFAR strength 0.5 and no blur
    "simclr_cifar": View(**_CROP, **_jitter(0.4, 0.4, 0.1), gray=0.2),
    # MoCo v1: jitter .4 (hue too) on every image, no blur (main_moco.py without --aug-plus)
    "moco_v1": View(**_MOCO, **_jitter(0.4, 0.4, 0.4, p=1.0)),
    # MoCo v2: main_moco.py --aug-plus
    "moco_v2": View(**_MOCO, **_jitter(0.4, 0.4, 0.1), blur_p=0.5),
    # BYOL and DnC: the two asymmetric distributions T and T'
    "byol_t": View(**_BYOL, blur_p=1.0),
    "byol_t_prime": View(**_BYOL, blur_p=0.1, solarize_p=0.2),
    # CLD's CIFAR sets A and A+ (datasets/dataloader.py:25-62), the same numbers as MoCo's
    "cld_a": View(**_MOCO, **_jitter(0.4, 0.4, 0.4, p=1.0)),
    "cld_a_plus": View(**_MOCO, **_jitter(0.4, 0.4, 0.1), blur_p=0.5),
    # its MoCo CIFAR-10 script: RandomErasing(p=1) after normalising, so the hole is the mean colour
    "cld_a_plus_erasing": View(**_MOCO, **_jitter(0.4, 0.4, 0.1), blur_p=0.5, erase_p=1.0),
    # InfoMin's set D, as CLD uses it (datasets/infomin_datasets.py): jitter of SimCLR, blur, two
    # RandAugment operations, grey. The released blur pads by reflection, the engine renormalises.
    "cld_d": View(crop_min=0.2, aspect=4 / 3, flip=0.5, **_jitter(0.8, 0.8, 0.2), blur_p=0.5,
                  randaugment="infomin", gray=0.2),
    # The same file: 255 px of at least .6 of the image, 3 x 3 cells of 85 px, 64 px of each, no
    # colour. The sides are shares: 32 px images give 36 px, 12 px and 9 px.
    "infomin_jigsaw": View(crop_min=0.6, aspect=4 / 3, flip=0.5, size=255 / 224, grid=3,
                           patch=64 / 85),
    # FNC, data_util.py: SimCLR's with RandAugment before grey. The released code blurs a whole
    # batch of a replica with one sigma, the engine each image with its own.
    "fnc": View(**_SIMCLR, randaugment="fnc"),
    # SwAV, src/multicropdataset.py and scripts/: 2 views of 224 px, 6 of 96 px, SimCLR's colours
    "swav_global": View(**{**_SIMCLR, "crop_min": 0.14}),
    "swav_local": View(**{**_SIMCLR, "crop_min": 0.05}, crop_max=0.14, size=96 / 224),
    # Barlow Twins, main.py, and VICReg, augmentations.py: BYOL's probabilities on PIL images.
    # (VICReg's paper may differ from its code in blur and solarisation; its text was not seen.)
    "barlow_t": View(**_PIL, blur_p=1.0),
    "barlow_t_prime": View(**_PIL, blur_p=0.1, solarize_p=0.2),
    # MoCo v3, main_moco.py: the same, crops of at least .2 (for ResNet-50; what other networks
    # used is not known here). SimSiam, main_simsiam.py: moco_v2, unchanged.
    "mocov3_t": View(**{**_PIL, "crop_min": 0.2}, blur_p=1.0),
    "mocov3_t_prime": View(**{**_PIL, "crop_min": 0.2}, blur_p=0.1, solarize_p=0.2),
}

FIELDS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(View))
_USUAL = View()


def override(view: View, values: Mapping[str, Any]) -> View:
    """The view with some fields replaced. Raises ValueError naming every bad field or value."""
    found: list[str] = []
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if name not in FIELDS:
            found.append(unknown("augmentation field", name, FIELDS))
        elif wanted := _misfit(name, value):
            found.append(f"augmentation field '{name}' must be {wanted}, not {value!r}")
        else:
            pair = isinstance(value, (list, tuple))
            kept[name] = (float(value[0]), float(value[1])) if pair else value
    if found:
        raise ValueError("; ".join(found))
    return dataclasses.replace(view, **kept)


def _misfit(name: str, value: object) -> str:
    """What a field's value must be, if this one is not; else an empty string."""
    usual = getattr(_USUAL, name)
    if isinstance(usual, tuple):
        fits = isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_number, value))
        return "" if fits else "two numbers"
    if usual is None:
        return "" if value is None or _number(value) else "a number or null"
    if isinstance(usual, str):
        return "" if isinstance(value, str) else "str"
    if isinstance(usual, int):
        return "" if isinstance(value, int) and _number(value) else "int"
    return "" if _number(value) else "float"


def view_of(value: str | Mapping[str, Any] | View) -> View:
    """A view from a recipe's name, or from a mapping of fields with an optional `recipe` to start
    from: {"recipe": "simclr", "blur_p": 0.0}. Raises ValueError with the list of recipes.
    """
    if isinstance(value, View):
        return value
    if isinstance(value, Mapping):
        rest = {name: item for name, item in value.items() if name != "recipe"}
        return override(view_of(str(value.get("recipe", "plain"))), rest)
    if not isinstance(value, str) or value not in RECIPES:
        raise ValueError(unknown("augmentation recipe", value, RECIPES))
    return RECIPES[value]


def problems(views: Sequence[str | Mapping[str, Any]],
             overrides: Mapping[str, Any] | None = None) -> list[str]:
    """One line for every mistake in a method's views with overrides on top; empty if all is well.

    Without views only the overrides are checked, on the plain view. What no view could be, such as
    an unknown field, is said once.
    """
    found: list[str] = []
    for entry in views or ("plain",):
        try:
            override(view_of(entry), overrides or {})
        except ValueError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def fields_of(view: View) -> dict[str, Any]:
    """The view as a JSON-able dict, for stage parameters."""
    return {name: list(item) if isinstance(item, tuple) else item
            for name, item in dataclasses.asdict(view).items()}


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
