"""Augmentation recipes as data, each number with its source. No torch, so planning can read them.

`View` says how one view of an image is made; datasets/views.py makes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets.messages import unknown

COLOURS = ("matrix", "sequential")
RULES = ("torchvision", "byol")


@dataclass(frozen=True)
class View:
    """How one view is made. The steps are applied in the order of the fields below.

    crop_min, crop_max: area of the crop as a share of the image, uniform; aspect: the ratio of its
    sides is log-uniform in 1/aspect..aspect (crop_min = crop_max = aspect = 1: no crop).
    flip: probability of a horizontal flip. jitter_p: probability of the colour jitter, with
    brightness, contrast, saturation, hue its strengths (factor in 1 +- strength; hue in turns).
    gray: probability of grey. blur_p, sigma: probability and range of the standard deviation (px)
    of a Gaussian blur over a tenth of the side. solarize_p: probability of inverting values of 0.5
    and above. erase_p: probability of one erased rectangle (2 to 33 % of the area).
    colour: 'matrix' does the jitter as one 3x3 matrix per image, hue as a rotation in YIQ, no
    clipping: fast, and an augmentation of its own; 'sequential' does the four steps in random
    order, clipped after each, hue in HSV. rule: 'torchvision' or 'byol' (additive brightness,
    contrast about each channel's own mean, saturation in HSV), for 'sequential' only.
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
    gray: float = 0.0
    blur_p: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.0
    erase_p: float = 0.0
    colour: str = "matrix"
    rule: str = "torchvision"

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
    return found


def _jitter(strength: float, saturation: float, hue: float, p: float = 0.8) -> dict[str, Any]:
    return {"jitter_p": p, "brightness": strength, "contrast": strength,
            "saturation": saturation, "hue": hue}


_CROP: dict[str, Any] = {"crop_min": 0.08, "aspect": 4 / 3, "flip": 0.5}
# MoCo crops keep at least a fifth (facebookresearch/moco, main_moco.py).
_MOCO: dict[str, Any] = {"crop_min": 0.2, "aspect": 4 / 3, "flip": 0.5, "gray": 0.2}
# DnC Table 12 and byol/utils/augmentations.py; T and T' differ in blur and solarisation.
_BYOL: dict[str, Any] = {**_CROP, **_jitter(0.4, 0.2, 0.1), "gray": 0.2, "rule": "byol"}

RECIPES: dict[str, View] = {
    # whole image, normalised: what evaluations see
    "plain": View(),
    # crop and flip, the usual training of classifiers
    "supervised": View(**_CROP),
    # SimCLR, Appendix A: jitter (.8, .8, .8, .2) of strength 1, blur p .5
    "simclr": View(**_CROP, **_jitter(0.8, 0.8, 0.2), gray=0.2, blur_p=0.5),
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
}

FIELDS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(View))


def override(view: View, values: Mapping[str, Any]) -> View:
    """The view with some fields replaced. Raises ValueError naming every bad field or value."""
    problems = [unknown("augmentation field", name, FIELDS) for name in values
                if name not in FIELDS]
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if name not in FIELDS:
            continue
        current = getattr(view, name)
        if isinstance(current, tuple):
            fits = isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_number, value))
            kept[name] = (float(value[0]), float(value[1])) if fits else value
        else:
            fits = isinstance(value, str) if isinstance(current, str) else _number(value)
            kept[name] = value
        if not fits:
            wanted = "two numbers" if isinstance(current, tuple) else type(current).__name__
            problems.append(f"augmentation field '{name}' must be {wanted}, not {value!r}")
    if problems:
        raise ValueError("; ".join(problems))
    return dataclasses.replace(view, **kept)


def view_of(value: str | Mapping[str, Any] | View) -> View:
    """A view from a recipe's name, or from a mapping of fields with an optional `recipe` to start
    from: {"recipe": "simclr", "blur_p": 0.0}. Raises ValueError with the list of recipes.
    """
    if isinstance(value, View):
        return value
    if isinstance(value, Mapping):
        rest = {name: item for name, item in value.items() if name != "recipe"}
        return override(view_of(str(value.get("recipe", "plain"))), rest)
    if value not in RECIPES:
        raise ValueError(unknown("augmentation recipe", value, RECIPES))
    return RECIPES[value]


def fields_of(view: View) -> dict[str, Any]:
    """The view as a JSON-able dict, for stage parameters."""
    return {name: list(item) if isinstance(item, tuple) else item
            for name, item in dataclasses.asdict(view).items()}


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
