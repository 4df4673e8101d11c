"""Views: the batched engine against torchvision, BYOL's code and its own promises."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from datasets import recipes, views
from datasets import views_colour as colour
from datasets import views_geometry as geometry

GOLDEN = Path(__file__).parent / "golden"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 24, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (n, height, width, 3), dtype=np.uint8))


def back(x: torch.Tensor) -> torch.Tensor:
    """Undo the normalisation: (B, 3, S, S) in 0..1."""
    return x * torch.tensor(views.STD).view(3, 1, 1) + torch.tensor(views.MEAN).view(3, 1, 1)


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (40, 56, 32), (20, 28, 48)])
def test_crop_and_flip_equal_torchvision(height: int, width: int, size: int) -> None:
    batch = images(24, height, width)
    drawn = views.draw(len(batch), generator())
    boxes = geometry.crop_boxes(drawn.crop, height, width, (0.08, 1.0), 4 / 3)
    got = back(views.apply(batch, recipes.RECIPES["supervised"], generator(), size))
    flips = drawn.coins[:, 0] < 0.5
    assert 0 < int(flips.sum()) < len(batch)
    for n, (top, left, tall, wide) in enumerate(torch.stack(boxes, 1).int().tolist()):
        image = batch[n].permute(2, 0, 1).float() / 255
        want = tv.resized_crop(image, top, left, tall, wide, [size, size], antialias=True)
        want = tv.horizontal_flip(want) if flips[n] else want
        torch.testing.assert_close(got[n], want, atol=2e-5, rtol=0)


def test_boxes_lie_inside_and_follow_the_area_and_aspect() -> None:
    drawn = views.draw(4000, generator())
    top, left, tall, wide = geometry.crop_boxes(drawn.crop, 64, 64, (0.2, 1.0), 4 / 3)
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + tall <= 64).all() and (left + wide <= 64).all()
    share = tall * wide / 64 ** 2
    assert share.min() > 0.18 and abs(float(share.mean()) - 0.57) < 0.03
    assert (wide / tall).max() < 1.4 and (tall / wide).max() < 1.4


def test_crop_falls_back_to_a_centre_crop_as_torchvision_does() -> None:
    uniform = torch.full((3, 22), 0.999)
    top, left, tall, wide = geometry.crop_boxes(uniform, 10, 100, (1.0, 1.0), 4 / 3)
    assert tall.tolist() == [10] * 3 and wide.tolist() == [13] * 3
    assert top.tolist() == [0] * 3 and left.tolist() == [43] * 3


def test_plain_is_the_image_normalised_and_resizes_as_torchvision() -> None:
    batch = images(4)
    want = tv.normalize(batch.permute(0, 3, 1, 2).float() / 255, list(views.MEAN), list(views.STD))
    torch.testing.assert_close(views.plain(batch, 32), want, atol=1e-5, rtol=0)
    torch.testing.assert_close(views.apply(batch, recipes.RECIPES["plain"], generator(), 32), want,
                               atol=1e-5, rtol=0)
    wide = images(3, 40, 64)
    square = wide.permute(0, 3, 1, 2)[:, :, :, 12:52].float() / 255
    want = tv.resize(square, [24, 24], antialias=True)
    torch.testing.assert_close(back(views.plain(wide, 24)), want, atol=2e-5, rtol=0)


def reference_matrix(x: torch.Tensor, b: float, c: float, s: float) -> torch.Tensor:
    """Brightness, contrast and saturation one after the other, unclipped; x: (3, H, W)."""
    luma = torch.tensor(colour.LUMA).view(3, 1, 1)
    x = x * b
    x = c * x + (1 - c) * (luma * x).sum(0).mean()
    return s * x + (1 - s) * (luma * x).sum(0, keepdim=True)


def test_one_matrix_stands_for_the_steps_in_any_order() -> None:
    x = images(1).permute(0, 3, 1, 2)[0].float() / 255
    amounts = torch.tensor([[1.3, 0.7, 1.4, 0.0]])
    matrix, weight = colour.jitter_matrix(amounts, torch.tensor([False]))
    mean = (torch.tensor(colour.LUMA) * x.mean((1, 2))).sum()
    got = torch.einsum("kc,chw->khw", matrix[0], x) + weight * mean
    torch.testing.assert_close(got, reference_matrix(x, 1.3, 0.7, 1.4), atol=1e-5, rtol=0)
    gray, _ = colour.jitter_matrix(amounts, torch.tensor([True]))
    torch.testing.assert_close(gray[0], (1.3 * 0.7 * torch.tensor(colour.LUMA)).expand(3, 3))


def test_the_hue_matrix_turns_the_way_hsv_does_and_keeps_grey() -> None:
    x = torch.tensor([0.6, 0.4, 0.3]).view(1, 3, 1, 1)
    for turn in (-0.1, 0.1):
        amounts = torch.tensor([[1.0, 1.0, 1.0, turn]])
        matrix, _ = colour.jitter_matrix(amounts, torch.tensor([False]))
        turned = (matrix[0] @ x.flatten()).view(1, 3, 1, 1)
        moved = float(colour.rgb_to_hsv(turned)[0, 0] - colour.rgb_to_hsv(x)[0, 0])
        assert abs((moved + 0.5) % 1 - 0.5 - turn) < 0.05
        torch.testing.assert_close(matrix[0] @ torch.ones(3), torch.ones(3), atol=1e-5, rtol=0)


def test_sequential_steps_equal_torchvision() -> None:
    x = images(6).permute(0, 3, 1, 2).float() / 255
    one = torch.ones(6)
    pairs = [(colour.brightness(x, 1.3 * one, "torchvision"), tv.adjust_brightness(x, 1.3)),
             (colour.contrast(x, 0.7 * one, "torchvision"), tv.adjust_contrast(x, 0.7)),
             (colour.saturation(x, 1.4 * one, "torchvision"), tv.adjust_saturation(x, 1.4)),
             (colour.hue(x, 0.07 * one, "torchvision"), tv.adjust_hue(x, 0.07)),
             (colour.solarize(x), tv.solarize(x, 0.5))]
    for got, want in pairs:
        torch.testing.assert_close(got.clamp(0, 1), want, atol=2e-5, rtol=0)


def golden_pieces() -> dict[str, np.ndarray]:
    path = GOLDEN / "byol_augment_pieces.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name} below tests/golden")
    with np.load(path, allow_pickle=False) as pieces:
        return {name: pieces[name] for name in pieces.files if name != "meta"}


def test_byol_pieces_equal_the_official_code() -> None:
    golden = golden_pieces()
    x = torch.from_numpy(golden["image"]).permute(2, 0, 1)[None]

    def amount(value: float) -> torch.Tensor:
        return torch.tensor([value], dtype=x.dtype)

    got = {"brightness_+0.3": colour.brightness(x, amount(0.3), "byol").clamp(0, 1),
           "contrast_1.3": colour.contrast(x, amount(1.3), "byol").clamp(0, 1),
           "saturation_1.2": colour.saturation(x, amount(1.2), "byol").clamp(0, 1),
           "hue_+0.08": colour.hue(x, amount(0.08), "byol").clamp(0, 1),
           "hsv": colour.rgb_to_hsv(x), "gray": colour.grayscale(x).expand(1, 3, 30, 30),
           "solarize_0.5": colour.solarize(x)}
    large = torch.from_numpy(golden["blur23_image48"]).permute(2, 0, 1)[None]
    for sigma in (0.1, 1.0, 2.0):
        for name, source, taps in (("blur_k3", x, 3), ("blur23", large, 23)):
            band = geometry.blur_matrix(torch.tensor([sigma]), source.shape[-1], taps,
                                        renormalise=False)
            got[f"{name}_sigma{sigma}"] = geometry.separable(source, band, band)
    assert len(got) == 13 and set(got) <= set(golden)
    for name, value in got.items():
        found = value[0].permute(1, 2, 0).double().numpy()
        np.testing.assert_allclose(found, golden[name], atol=1e-6, err_msg=name)


def test_the_blur_in_the_matrix_path_keeps_a_constant_image() -> None:
    batch = torch.full((5, 32, 32, 3), 100, dtype=torch.uint8)
    view = recipes.View(blur_p=1.0)
    torch.testing.assert_close(views.apply(batch, view, generator(), 32), views.plain(batch, 32),
                               atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
@pytest.mark.parametrize("path", recipes.COLOURS)
def test_every_recipe_in_both_paths(name: str, path: str) -> None:
    batch = images(70)
    view = dataclasses.replace(recipes.RECIPES[name], colour=path)
    out = views.apply(batch, view, generator(), 32)
    side, cells = recipes.patch_of(view, 32), (view.grid ** 2,) if view.grid > 1 else ()
    assert out.shape == (70, *cells, 3, side, side) and out.dtype == torch.float32
    assert out.view(-1, *out.shape[-3:]).is_contiguous(memory_format=torch.channels_last)
    assert bool(out.isfinite().all())
    assert torch.equal(out, views.apply(batch, view, generator(), 32))
    assert views.apply(batch, view, generator(), 24, dtype=torch.bfloat16).dtype == torch.bfloat16
    if path == "sequential" and view.erase_p == 0:
        assert float(back(out).min()) > -1e-5 and float(back(out).max()) < 1 + 1e-5


def test_a_view_of_an_image_depends_on_its_place_in_the_batch_not_on_the_parts() -> None:
    batch = images(150)
    view = recipes.RECIPES["byol_t_prime"]
    whole = views.apply(batch, view, generator(), 32)
    assert len(views._parts(batch, 32)) == 3
    drawn = views.Draws(*(row[100:101] for row in views.draw(150, generator())))
    one = torch.empty(1, 3, 32, 32)
    views._matrix(batch[100:101], view, drawn, one)
    torch.testing.assert_close(whole[100:101], one, atol=1e-5, rtol=0)


def test_erasing_clears_one_rectangle_of_a_legal_area() -> None:
    mask = geometry.erase_mask(torch.rand(200, 4, generator=generator()), 32)
    area = mask.float().mean((1, 2, 3))
    assert area.min() > 0.005 and area.max() < 0.36
    out = views.apply(images(8), recipes.View(erase_p=1.0), generator(), 32)
    assert ((out == 0).all(1).flatten(1).sum(1) > 0).all()


def test_probabilities_are_kept() -> None:
    batch = images(600, 8, 8)
    view = recipes.View(gray=0.2)
    out = back(views.apply(batch, view, generator(), 8))
    gray = (out - out.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-4
    assert 0.15 < float(gray.float().mean()) < 0.25


def test_torchvision_and_matrix_jitter_agree_where_nothing_clips() -> None:
    batch = 100 + images(16) // 8  # contrast and brightness stay inside 0..1
    soft = recipes.View(jitter_p=1.0, brightness=0.2, contrast=0.2, saturation=0.2)
    one = views.apply(batch, soft, generator(), 32)
    two = views.apply(batch, dataclasses.replace(soft, colour="sequential"), generator(), 32)
    torch.testing.assert_close(one, two, atol=2e-3, rtol=0)  # grey weights differ by 1e-4


def test_override_and_names() -> None:
    view = recipes.view_of({"recipe": "moco_v2", "blur_p": 0.0, "sigma": [0.1, 1.0]})
    assert view.blur_p == 0 and view.sigma == (0.1, 1.0) and view.crop_min == 0.2
    assert recipes.override(recipes.View(), recipes.fields_of(view)) == view
    with pytest.raises(ValueError, match="Did you mean 'moco_v2'"):
        recipes.view_of("moco-v2")
    with pytest.raises(ValueError, match="Did you mean 'blur_p'"):
        recipes.override(view, {"blurp": 1})
    with pytest.raises(ValueError, match="'flip' must be float, not True"):
        recipes.override(view, {"flip": True})
    with pytest.raises(ValueError, match="flip is a probability"):
        recipes.override(view, {"flip": 1.5})
    with pytest.raises(ValueError, match="'sigma' must be two numbers"):
        recipes.override(view, {"sigma": [1.0]})
    with pytest.raises(ValueError, match="unknown colour 'hsv'"):
        recipes.override(view, {"colour": "hsv"})


def test_recipes_hold_the_published_numbers() -> None:
    assert len(recipes.RECIPES) >= 10
    t, t_prime = recipes.RECIPES["byol_t"], recipes.RECIPES["byol_t_prime"]
    assert (t.blur_p, t.solarize_p, t_prime.blur_p, t_prime.solarize_p) == (1.0, 0.0, 0.1, 0.2)
    assert (t.brightness, t.contrast, t.saturation, t.hue) == (0.4, 0.4, 0.2, 0.1)
    assert recipes.RECIPES["simclr"].blur_p == 0.5 and recipes.RECIPES["simclr_cifar"].blur_p == 0
    assert geometry.kernel_size(224) == 23 and geometry.kernel_size(30) == 3


def test_low_precision_is_the_rounded_full_one() -> None:
    batch = images(40)
    for name in ("byol_t_prime", "simclr"):
        view = recipes.RECIPES[name]
        full = views.apply(batch, view, generator(), 32)
        low = views.apply(batch, view, generator(), 32, dtype=torch.bfloat16)
        assert torch.equal(full.bfloat16(), low)
