"""RandAugment: every operation against PIL, the policies against their numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from datasets import randaugment, recipes, views
from datasets import views_randaugment as engine

SIDE = 32
POLICIES = sorted(randaugment.POLICIES)


def generator(seed: int = 0) -> torch.Generator:
    """A generator from a seed."""
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 6, side: int = SIDE) -> Tensor:
    """Smooth random pictures with noise, one flat and one with few values: uint8 (n, S, S, 3)."""
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 120, side)
    base = slope[:, None, None] + slope[None, :, None] + rng.integers(0, 60, (n, 1, 1, 3))
    found = np.clip(base + rng.integers(-40, 40, (n, side, side, 3)), 0, 255).astype(np.uint8)
    found[0], found[1] = 77, found[1] // 64 * 64
    return torch.from_numpy(found)


def as_values(images: Tensor) -> Tensor:
    """uint8 (n, S, S, 3) as float (n, 3, S, S) in 0..255."""
    return images.permute(0, 3, 1, 2).float()


def by_pil(images: Tensor, function: Callable[[Image.Image], Image.Image]) -> Tensor:
    """A PIL function on each image, in the engine's layout."""
    made = [np.asarray(function(Image.fromarray(image))) for image in images.numpy()]
    return as_values(torch.from_numpy(np.stack(made)))


def enhanced(cls: type, factor: float) -> Callable[[Image.Image], Image.Image]:
    """A PIL enhancement at a factor."""
    return lambda image: cls(image).enhance(factor)


PHOTOMETRIC = [
    ("autocontrast", 0.0, ImageOps.autocontrast),
    ("equalize", 0.0, ImageOps.equalize),
    ("invert", 0.0, ImageOps.invert),
    *[("posterize", float(bits), lambda image, bits=bits: ImageOps.posterize(image, bits))
      for bits in (1, 2, 4)],
    *[("solarize", float(at), lambda image, at=at: ImageOps.solarize(image, at))
      for at in (0, 179, 256)],
    *[(name, factor, enhanced(cls, factor)) for factor in (0.1, 0.7, 1.36, 1.9)
      for name, cls in (("color", ImageEnhance.Color), ("brightness", ImageEnhance.Brightness),
                        ("sharpness", ImageEnhance.Sharpness),
                        ("contrast", ImageEnhance.Contrast))],
]


@pytest.mark.parametrize(("name", "amount", "function"), PHOTOMETRIC)
def test_photometric_operations_equal_pil(
    name: str, amount: float, function: Callable[[Image.Image], Image.Image]
) -> None:
    """Within one of 255 (PIL cuts 126.9999 of a float to 126); those without fractions exactly."""
    images = pictures()
    amounts = torch.full((len(images),), amount)
    step = engine.contrast if name == "contrast" else engine.OPERATIONS[name]
    exact = name in ("equalize", "invert", "posterize", "solarize", "brightness")
    got, wanted = step(as_values(images), amounts), by_pil(images, function)
    assert amount == 256 or not torch.equal(got, as_values(images))
    torch.testing.assert_close(got, wanted, atol=0 if exact else 1, rtol=0)
    assert torch.equal(got, got.round()) and got.min() >= 0 and got.max() <= 255


def test_photometric_operations_equal_torchvision_where_pil_is_not_its_backend() -> None:
    """On uint8 tensors torchvision has code of its own."""
    images = pictures()
    pixels = images.permute(0, 3, 1, 2)
    one = torch.ones(len(images))
    pairs = [(engine.autocontrast(as_values(images)), tv.autocontrast(pixels)),
             (engine.equalize(as_values(images)), tv.equalize(pixels)),
             (engine.posterize(as_values(images), 2 * one), tv.posterize(pixels, 2)),
             (engine.solarize(as_values(images), 179 * one), tv.solarize(pixels, 179)),
             (engine.brightness(as_values(images), 1.36 * one), tv.adjust_brightness(pixels, 1.36)),
             (engine.color(as_values(images), 1.36 * one), tv.adjust_saturation(pixels, 1.36)),
             (engine.sharpness(as_values(images), 1.36 * one), tv.adjust_sharpness(pixels, 1.36))]
    for got, wanted in pairs:
        torch.testing.assert_close(got, wanted.float(), atol=1.01, rtol=0)


def test_each_image_has_its_own_amount() -> None:
    """A batch is the stack of its images done alone."""
    y, amounts = as_values(pictures()), torch.linspace(0.1, 1.9, 6)
    for step in (engine.color, engine.brightness, engine.sharpness, engine.contrast):
        alone = [step(y[i:i + 1], amounts[i:i + 1]) for i in range(6)]
        assert torch.equal(step(y, amounts), torch.cat(alone))


def test_solarize_add_and_contrast_about_a_level() -> None:
    """The operations that PIL does not have, by their definition."""
    y = torch.tensor([0.0, 100.0, 127.0, 128.0, 255.0]).expand(1, 3, 5, 5)
    got = engine.solarize_add(y, torch.tensor([77.0]))[0, 0, 0]
    assert got.tolist() == [77, 177, 204, 128, 255]
    got = engine.contrast(y, torch.tensor([1.36]), 196)[0, 0, 0]
    assert got.tolist() == [0, 65, 102, 103, 255]  # 196 + 1.36 (y - 196), cut


AFFINE = [
    ("shear_x", 0.21, (1, 0.21, 0, 0, 1, 0)), ("shear_x", -0.3, (1, -0.3, 0, 0, 1, 0)),
    ("shear_y", 0.21, (1, 0, 0, 0.21, 1, 0)),
    ("translate_x", 10 / SIDE, (1, 0, 10, 0, 1, 0)), ("translate_y", -0.45,
                                                      (1, 0, 0, 0, 1, -0.45 * SIDE)),
]
MODES = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}
FILL = (124, 116, 104)


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize(("name", "amount", "matrix"), AFFINE)
def test_shears_and_shifts_equal_pil(
    name: str, amount: float, matrix: tuple[float, ...], mode: str
) -> None:
    """All but a hundredth of the pixels (those on an edge of rounding) within 1.5 of 255."""
    images = pictures()
    found = engine.affine(name, torch.full((len(images),), amount))
    got = engine.sample(as_values(images), found, mode, FILL)
    wanted = by_pil(images, lambda image: image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=MODES[mode], fillcolor=FILL))
    assert float(((got - wanted).abs() > 1.5).float().mean()) < 0.01


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("angle", [21.0, -30.0])
def test_rotation_equals_pil(angle: float, mode: str) -> None:
    """About the centre, counter-clockwise."""
    images = pictures()
    found = engine.affine("rotate", torch.full((len(images),), angle))
    got = engine.sample(as_values(images), found, mode, FILL)
    wanted = by_pil(images, lambda image: image.rotate(angle, MODES[mode], fillcolor=FILL))
    assert float(((got - wanted).abs() > 1.5).float().mean()) < 0.01


def test_cutout_fills_a_square_around_a_pixel() -> None:
    """28 of 224 pixels on each side; cut at the border."""
    y = torch.zeros(2, 3, 224, 224)
    place = torch.tensor([[0.5, 0.5], [0.0, 0.999]])
    got = engine.cutout(y, torch.full((2,), 28 / 224), place, (128, 128, 128))
    assert bool((got[0, :, 84:140, 84:140] == 128).all())
    assert [float((image == 128).float().sum()) / 3 for image in got] == [56 * 56, 28 * 29]


def test_the_policies_hold_the_released_numbers() -> None:
    """Amounts at FNC's magnitude 7 and at InfoMin's 10."""
    sign = torch.tensor([0.9])
    fnc, infomin = randaugment.POLICIES["fnc"], randaugment.POLICIES["infomin"]

    def at(policy: randaugment.Policy, name: str) -> float:
        level, magnitude = policy.levels[name], torch.tensor([policy.magnitude])
        return float(engine.amount(level, magnitude, sign))

    assert len(fnc.levels) == 16 and len(infomin.levels) == 15
    wanted = {"rotate": 21, "posterize": 2, "solarize": 179, "solarize_add": 77, "color": 1.36,
              "shear_x": 0.21, "translate_y": 70 / 224, "cutout": 28 / 224}
    assert {name: at(fnc, name) for name in wanted} == pytest.approx(wanted)
    wanted = {"posterize": 4, "solarize": 256, "contrast": 1.9, "translate_x": 0.45}
    assert {name: at(infomin, name) for name in wanted} == pytest.approx(wanted)
    assert (fnc.layers, fnc.probability, fnc.deviation) == (2, 1.0, 0.0)
    assert (infomin.layers, infomin.probability, infomin.deviation) == (2, 0.5, 0.5)


def one_image(x: Tensor, policy: randaugment.Policy, drawn: Tensor) -> Tensor:
    """The policy on one image (3, S, S), operation after operation."""
    y = (x * 255).round().clamp(0, 255)[None]
    names = list(policy.levels)
    for picked, done, sign, blend, row, column, normal in drawn:
        if done >= policy.probability:
            continue
        name = names[int(picked * len(names))]
        magnitude = (policy.magnitude + policy.deviation * normal).clamp(0, 10)
        amounts = engine.amount(policy.levels[name], magnitude[None], sign[None])
        if name in randaugment.GEOMETRIC:
            mode = policy.interpolation[int(blend * len(policy.interpolation))]
            y = engine.sample(y, engine.affine(name, amounts), mode, policy.fill)
        elif name == "cutout":
            y = engine.cutout(y, amounts, torch.stack([row, column])[None], policy.fill)
        elif name == "contrast":
            y = engine.contrast(y, amounts, policy.contrast_about)
        else:
            y = engine.OPERATIONS[name](y, amounts)
    return y[0] / 255


@pytest.mark.parametrize("name", POLICIES)
def test_a_batch_is_its_images_one_by_one(name: str) -> None:
    """Masked subsets give each image its own operations, in its own order."""
    policy = randaugment.POLICIES[name]
    x = as_values(pictures(200)) / 255
    drawn = engine.draw(len(x), policy, generator())
    got = engine.apply(x, policy, drawn)
    wanted = torch.stack([one_image(x[i], policy, drawn[i]) for i in range(len(x))])
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)
    changed = (got - x).abs().amax((1, 2, 3)) > 0.01
    assert float(changed.float().mean()) > (0.8 if policy.probability == 1 else 0.5)


@pytest.mark.parametrize("name", POLICIES)
def test_every_operation_is_drawn_equally_often(name: str) -> None:
    """Operations, coins and signs are uniform; magnitudes are normal."""
    drawn = engine.draw(8000, randaugment.POLICIES[name], generator())
    count = len(randaugment.POLICIES[name].levels)
    share = torch.bincount((drawn[:, 0, 0] * count).long(), minlength=count) / 8000
    assert len(share) == count and float((share - 1 / count).abs().max()) < 0.015
    assert abs(float(drawn[..., 6].mean())) < 0.05 and abs(float(drawn[..., 6].std()) - 1) < 0.05


def test_grey_comes_after_randaugment() -> None:
    """FNC and InfoMin: no colour is left in a grey view, filled borders included."""
    for name in ("fnc", "cld_d"):
        view = recipes.override(recipes.RECIPES[name], {"gray": 1.0, "blur_p": 0.0})
        out = views.apply(pictures(40), view, generator(), SIDE)
        out = out * torch.tensor(views.STD).view(3, 1, 1) + torch.tensor(views.MEAN).view(3, 1, 1)
        assert float((out - out.mean(1, keepdim=True)).abs().max()) < 1e-4


def test_views_without_a_policy_draw_as_before() -> None:
    """RandAugment draws after everything else, so crops and colours are comparable by seed."""
    plain, rich = (views.draw(20, generator(), recipes.RECIPES[n]) for n in ("simclr", "fnc"))
    assert rich.policy.shape == (20, 2, engine.WIDTH) and plain.policy.shape == (20, 0)
    assert all(torch.equal(a, b) for a, b in zip(plain[:6], rich[:6], strict=True))
