"""Views are checked where a study is planned: a slip costs a second, not a night of stages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from datasets import recipes
from harness.config import compose
from harness.errors import Problems
from harness.study import resolve_study
from methods.registry import discover

PLUGIN = '''
from __future__ import annotations

from torch import Tensor

from methods.base import Batch, Method
from methods.registry import register


@register("odd_views")
class OddViews(Method):
    """A method whose views do not exist."""

    views = ("simclr", {"recipe": "byol_tt"}, {"blurp": 1.0})

    def loss(self, batch: Batch) -> Tensor:
        return batch.views[0].mean()
'''


def problems_of(results: Path, *arguments: str) -> list[str]:
    """What is wrong with a study; an empty list if nothing is."""
    given = ["grid=curation_gap", "scale=smoke", f"results={results}", *arguments]
    try:
        resolve_study(compose(given))
    except Problems as error:
        return [str(line) for line in error.problems]
    return []


def test_overrides_are_checked_once(tmp_path: Path) -> None:
    """A wrong name or value in `scale.views` is one line, however many rows there are."""
    assert problems_of(tmp_path, "+scale.views.blur_p=0") == []
    (line,) = problems_of(tmp_path, "+scale.views.blurp=0")
    assert line.startswith("scale.views: unknown augmentation field 'blurp'. Did you mean 'blur_p'")
    (line,) = problems_of(tmp_path, "+scale.views.flip=2")
    assert line == "scale.views: flip is a probability: 2 is not in 0..1"
    (line,) = problems_of(tmp_path, "scale.views=small")
    assert line.startswith("scale.views: must be a mapping")


def test_overrides_that_a_method_cannot_have_name_the_method(tmp_path: Path) -> None:
    """Crops of at least half are well by themselves, but not in a view of at most .14."""
    plugin = tmp_path / "odd.py"
    plugin.write_text(PLUGIN.replace('"simclr", {"recipe": "byol_tt"}, {"blurp": 1.0}',
                                     '"swav_local", "simclr"'))
    given = (f"plugins=[{plugin}]", "grid.methods=[odd_views,simclr]")
    assert problems_of(tmp_path, *given) == []
    assert problems_of(tmp_path, *given, "+scale.views.crop_min=0.5") == [
        "method 'odd_views' with scale.views: views: "
        "crop needs 0 < crop_min <= crop_max <= 1, not 0.5, 0.14"]


def test_a_methods_own_views_are_checked(tmp_path: Path) -> None:
    """Names and fields of a plug-in's views, with the nearest name."""
    plugin = tmp_path / "odd.py"
    plugin.write_text(PLUGIN)
    lines = problems_of(tmp_path, f"plugins=[{plugin}]", "grid.methods=[odd_views]")
    assert len(lines) == 2 and all(line.startswith("method 'odd_views': views: ") for line in lines)
    assert "Did you mean 'byol_t'?" in lines[0] and "Did you mean 'blur_p'?" in lines[1]


def test_the_views_of_all_methods_exist() -> None:
    """As far as they are written as literals."""
    views = {name: spec.views for name, spec in discover().items() if spec.views}
    assert len(views) >= 15
    for name, entries in views.items():
        assert recipes.problems(entries) == [], name


@pytest.mark.parametrize("module", ["datasets.recipes", "datasets.randaugment"])
def test_recipes_need_no_torch(module: str) -> None:
    """Planning reads them."""
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
