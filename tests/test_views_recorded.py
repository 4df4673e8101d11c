"""Every recipe's views are what they were: a stored result must not change under its readers.

`python tests/test_views_recorded.py` adds recipes that are new and never rewrites an entry: another
entry is another meaning of results that exist. Give the recipe another name instead.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets import recipes, views

FILE = Path(__file__).parent / "golden" / "views.json"
IMAGES, HEIGHT, WIDTH, SIZE = 70, 40, 48, 32
# what methods ask for beside the recipes, and operations that no recipe had at first
OTHERS: dict[str, dict[str, Any]] = {
    "simclr, crop_min .14": {"recipe": "simclr", "crop_min": 0.14},
    "simclr, crop .05 to .14": {"recipe": "simclr", "crop_min": 0.05, "crop_max": 0.14},
    "byol_t, rule torchvision": {"recipe": "byol_t", "rule": "torchvision"},
    "byol_t_prime, rule torchvision": {"recipe": "byol_t_prime", "rule": "torchvision"},
    "byol_t_prime, rule torchvision, crop_min .2": {
        "recipe": "byol_t_prime", "rule": "torchvision", "crop_min": 0.2},
    "erasing": {"erase_p": 0.5},
}


def cases() -> list[tuple[str, recipes.View]]:
    """Every recipe and every other view, by the fast path and step by step."""
    entries = {**{name: name for name in recipes.RECIPES}, **OTHERS}
    return [(f"{name} | {path}", dataclasses.replace(recipes.view_of(entry), colour=path))
            for name, entry in entries.items() for path in recipes.COLOURS]


def sha256(x: Tensor) -> str:
    """Half of the checksum of a tensor's values."""
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()[:24]


@functools.cache
def pictures() -> tuple[Tensor, str]:
    """Random pictures, and a checksum that tells machines with other arithmetic apart."""
    rng = np.random.default_rng(7)
    shape = (IMAGES, HEIGHT, WIDTH, 3)
    found = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    one, two = (torch.from_numpy(rng.standard_normal(side).astype(np.float32))
                for side in ((8, 32, 40), (8, 40, 32)))
    return found, sha256(torch.bmm(one, two).exp().sqrt())


@functools.cache
def directions() -> Tensor:
    """Four random directions to project views on; (4, n)."""
    shape = (4, IMAGES * 3 * SIZE * SIZE)
    return torch.from_numpy(np.random.default_rng(8).standard_normal(shape))


def measured(view: recipes.View) -> dict[str, Any]:
    """Checksum of two views from one generator, and projections of the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(11)
    two = [views.apply(pictures()[0], view, generator, SIZE) for _ in range(2)]
    torch.set_num_threads(threads)
    first = two[0].contiguous().double().flatten()
    length = min(len(first), directions().shape[1])
    sums = directions()[:, :length] @ first[:length]
    return {"sha256": sha256(torch.stack([view.contiguous() for view in two])),
            "sums": [round(float(value), 6) for value in sums]}


def machine() -> dict[str, str]:
    """What equal bits depend on."""
    return {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(),
            "canary": pictures()[1]}


def recorded() -> dict[str, Any]:
    """The file."""
    return dict(json.loads(FILE.read_text()))


def test_every_recipe_is_recorded() -> None:
    """The test below must not pass by finding nothing."""
    names = {name for name, _ in cases()}
    assert len(names) >= 32
    assert names == set(recorded()["views"]), "run python tests/test_views_recorded.py"


@pytest.mark.parametrize(("name", "view"), cases())
def test_views_are_those_recorded(name: str, view: recipes.View) -> None:
    """Equal bits where arithmetic is equal, else equal projections (they vary by 400 by seed)."""
    known = recorded()
    got, wanted = measured(view), known["views"][name]
    assert got["sums"] == pytest.approx(wanted["sums"], rel=0, abs=tolerance(view))
    if machine() == {key: known[key] for key in machine()}:
        assert got["sha256"] == wanted["sha256"]


def tolerance(view: recipes.View) -> float:
    """RandAugment rounds to 1/255: a value on the edge, or a flat one that is equalised, jumps."""
    return 0.05 if view.randaugment == "none" else 5.0


if __name__ == "__main__":
    known = recorded()
    if machine() != {key: known[key] for key in machine()}:
        raise SystemExit(f"recorded with {known['torch']}, {known['cpu']}: use such a machine")
    entries = {name: known["views"].get(name) or measured(view) for name, view in cases()}
    lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()]
    head = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in machine().items()]
    body = ",\n".join(lines)
    FILE.write_text("{\n" + ",\n".join(head) + ',\n "views": {\n' + body + "\n }\n}\n")
