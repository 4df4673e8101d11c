"""Views of other sizes, patches, erasing, the legacy resize, and the check of views in a plan."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets import recipes, views, views_legacy
from datasets import views_geometry as geometry


def generator(seed: int = 0) -> torch.Generator:
    """A generator from a seed."""
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 8, height: int = 32, width: int = 32) -> Tensor:
    """Random uint8 (n, H, W, 3)."""
    shape = (n, height, width, 3)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize(("image_size", "side"), [(224, 96), (32, 14), (64, 27), (1, 1)])
def test_local_views_are_smaller(image_size: int, side: int) -> None:
    """96 of 224 pixels, in proportion at other sizes; global views have the image size."""
    local, whole = recipes.RECIPES["swav_local"], recipes.RECIPES["swav_global"]
    assert recipes.side_of(local, image_size) == side
    assert recipes.side_of(whole, image_size) == image_size
    out = views.apply(pictures(), local, generator(), image_size)
    assert out.shape == (8, 3, side, side) and bool(out.isfinite().all())
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_a_view_of_half_the_size_is_a_view_at_half_the_size() -> None:
    """Size changes the resolution only."""
    for path in recipes.COLOURS:
        view = dataclasses.replace(recipes.RECIPES["simclr"], colour=path)
        half = dataclasses.replace(view, size=0.5)
        assert torch.equal(views.apply(pictures(), half, generator(), 32),
                           views.apply(pictures(), view, generator(), 16))


def test_swav_recipes_hold_the_published_numbers() -> None:
    """Areas of the two kinds of crop; everything else is SimCLR's."""
    local, whole = recipes.RECIPES["swav_local"], recipes.RECIPES["swav_global"]
    assert (local.crop_min, local.crop_max) == (0.05, 0.14)
    assert (whole.crop_min, whole.crop_max) == (0.14, 1.0)
    back = {"crop_min": 0.08, "crop_max": 1.0, "size": None}
    assert recipes.override(local, back) == recipes.RECIPES["simclr"]
    assert recipes.override(whole, back) == recipes.RECIPES["simclr"]


@pytest.mark.parametrize(("image_size", "sides"),
                         [(224, (255, 64)), (32, (36, 9)), (96, (108, 27))])
def test_jigsaw_sizes(image_size: int, sides: tuple[int, int]) -> None:
    """255 px, cells of 85 px, patches of 64 px; in proportion at other sizes."""
    view = recipes.RECIPES["infomin_jigsaw"]
    assert (recipes.side_of(view, image_size), recipes.patch_of(view, image_size)) == sides
    out = views.apply(pictures(4), view, generator(), image_size)
    assert out.shape == (4, 9, 3, sides[1], sides[1]) and out.dtype == torch.float32
    assert out.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_patches_come_from_their_cells_row_by_row() -> None:
    """Each patch is a window of its own cell, and windows differ between images."""
    drawn = torch.rand(50, 9, 2, generator=generator())
    place = torch.arange(36 * 36.0).view(1, 1, 36, 36).expand(50, 3, 36, 36)
    got = geometry.patches(place, drawn, 9)
    assert got.shape == (50, 9, 3, 9, 9)
    rows, columns = got[:, :, 0] // 36, got[:, :, 0] % 36
    for number in range(9):
        row, column = rows[:, number] - 12 * (number // 3), columns[:, number] - 12 * (number % 3)
        assert row.min() == 0 and column.min() == 0 and row.max() == 11 and column.max() == 11
        assert bool((row[:, 1:] - row[:, :-1] == 1).all())
        assert bool((column[:, :, 1:] - column[:, :, :-1] == 1).all())


def test_a_view_with_cells_is_the_whole_view_cut() -> None:
    """Patches of the full cell put together are the view."""
    whole = dataclasses.replace(recipes.RECIPES["infomin_jigsaw"], patch=1.0)
    parts = views.apply(pictures(), whole, generator(), 32)
    view = dataclasses.replace(whole, grid=1, size=36 / 32)
    wanted = views.apply(pictures(), view, generator(), 32)
    joined = parts.unflatten(1, (3, 3)).permute(0, 3, 1, 4, 2, 5).reshape(8, 3, 36, 36)
    assert torch.equal(joined, wanted)


@pytest.mark.parametrize("name", ["simclr", "fnc", "cld_d", "swav_local", "infomin_jigsaw"])
def test_a_part_of_a_batch_looks_as_in_the_whole_one(name: str) -> None:
    """Processes that share a batch draw the same numbers, those of policies and patches too."""
    view, batch = recipes.RECIPES[name], pictures(8)
    whole = views.apply(batch, view, generator(), 32)
    parts = [views.apply(batch[4 * i:4 * i + 4], view, generator(), 32, part=(i, 2))
             for i in (0, 1)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_erasing_leaves_the_mean_colour() -> None:
    """CLD's erasing comes after normalising: zeros, in every image, on 2 to 33 % of it."""
    out = views.apply(pictures(200), recipes.RECIPES["cld_a_plus_erasing"], generator(), 32)
    share = (out == 0).all(1).float().mean((1, 2))
    assert share.min() > 0.005 and 0.1 < float(share.mean()) < 0.25 and share.max() < 0.36


def test_barlow_and_moco_v3_are_byol_on_pil_images() -> None:
    """The same probabilities, torchvision's colour rule; MoCo v3 keeps a fifth of the image."""
    for prime in ("", "_prime"):
        byol = recipes.RECIPES[f"byol_t{prime}"]
        wanted = dataclasses.replace(byol, rule="torchvision")
        assert recipes.RECIPES[f"barlow_t{prime}"] == wanted
        assert recipes.RECIPES[f"mocov3_t{prime}"] == dataclasses.replace(wanted, crop_min=0.2)


def test_legacy_resize_keeps_constants_and_whole_places() -> None:
    """Weights sum to 1; at twice the size every second pixel is the image's own."""
    for full, size in ((40, 48), (53, 48), (7, 224), (5, 5)):
        matrix = views_legacy.bicubic_matrix(full, size)
        torch.testing.assert_close(matrix.sum(1), torch.ones(size), atol=1e-6, rtol=0)
    x = torch.rand(2, 3, 8, 8, generator=generator())
    torch.testing.assert_close(views_legacy.resize_bicubic(x, 16, 16)[:, :, ::2, ::2], x)


def test_problems_of_views_and_overrides() -> None:
    """One line each, with the nearest name; nothing for what is right."""
    assert recipes.problems(("simclr", {"recipe": "byol_t", "rule": "torchvision"})) == []
    assert recipes.problems((), {"blur_p": 0.0, "size": None, "grid": 2}) == []
    assert recipes.problems((), None) == []
    (line,) = recipes.problems(("simclrr",))
    assert "unknown augmentation recipe 'simclrr'. Did you mean 'simclr'?" in line
    (line,) = recipes.problems(("simclr", "moco_v2"), {"blurp": 0.5})
    assert "Did you mean 'blur_p'?" in line
    lines = recipes.problems(({"recipe": "simclr", "hu": 1}, "byol"), {})
    assert len(lines) == 2 and "'hue'" in lines[0] and "byol_t" in lines[1]
    (line,) = recipes.problems(("swav_local",), {"crop_min": 0.5})
    assert "0 < crop_min <= crop_max <= 1, not 0.5, 0.14" in line
    assert recipes.problems((3, ["simclr"]))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value", "message"), [
    ("size", "small", "'size' must be a number or null, not 'small'"),
    ("size", 96, "size is a share of the image size, above 0 and at most 4, not 96"),
    ("grid", 1.5, "'grid' must be int, not 1.5"), ("grid", 0, "grid is a whole number of cells"),
    ("patch", 0, "patch is a share of a cell"), ("flip", None, "'flip' must be float, not None"),
    ("randaugment", "fcn", "Did you mean 'fnc'?"), ("randaugment", 1, "must be str, not 1"),
    ("erase_p", 2, "erase_p is a probability")])
def test_bad_fields(name: str, value: object, message: str) -> None:
    """A value of the wrong kind or out of range is named."""
    with pytest.raises(ValueError) as caught:
        recipes.override(recipes.View(), {name: value})
    assert message in str(caught.value)
