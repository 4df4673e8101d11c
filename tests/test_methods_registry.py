"""Methods are found without importing them, and what is read equals what Python would say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from methods import Pretrain, discover, load, load_recipe, register
from methods.base import Method
from methods.dnc import Config as DnCConfig
from methods.options import build, option, options_of, resolve
from methods.registry import HERE, named

SPECS = discover()
METHODS = sorted(name for name, spec in SPECS.items() if spec.kind == "method")

GOOD = '''"""A plug-in."""
from __future__ import annotations
from dataclasses import dataclass
from methods import option, register
from methods.base import Method
from methods.simclr import SimCLR

@register("warm")
class Warm(SimCLR):
    """SimCLR, warmer."""
    @dataclass(frozen=True)
    class Config(SimCLR.Config):
        temperature: float = option(0.5, above=0, source="here")
        extra: int = 3
'''


def test_found() -> None:
    """The tests below must not pass by finding nothing."""
    assert {"simclr", "mocov2", "byol", "moclr", "distil", "supervised"} <= set(METHODS)
    assert SPECS["dnc"].kind == "recipe"


@pytest.mark.parametrize("name", METHODS)
def test_what_is_read_is_what_python_says(name: str) -> None:
    """The schema and the attributes from the syntax tree equal those of the class."""
    spec, cls = SPECS[name], load(SPECS[name])
    assert spec.options == options_of(cls.Config)
    assert list(spec.options) == list(options_of(cls.Config))
    assert (spec.paper, spec.views, spec.revision, spec.trainable) == (
        cls.paper,
        cls.views,
        cls.revision,
        cls.trainable,
    )
    labels = ("labels",) * cls.needs_labels + ("teachers",) * cls.needs_teachers
    assert spec.needs == (*labels, *cls.keeps)
    assert spec.paper and spec.summary.endswith(".")


def test_recipe_schema() -> None:
    """The same holds for a recipe's options, and its defaults make an expression."""
    spec = SPECS["dnc"]
    assert spec.options == options_of(DnCConfig)
    resolved, problems = resolve(spec.options, {"k": 3}, "method.dnc")
    student = load_recipe(spec)(10.0, resolved)
    assert not problems and isinstance(student, Pretrain)
    base, *experts = student.teachers
    assert len(experts) == 3 and base.epochs + experts[0].epochs + student.epochs == 10.0
    assert student.groups == experts[0].subset[0] and student.groups.base == base


@pytest.mark.parametrize("partition", ["clusters", "random", "all"])
@pytest.mark.parametrize("teachers", ["both", "base", "experts"])
def test_dnc_variants_are_distinct_runs(partition: str, teachers: str) -> None:
    """Experts are k different runs, and an unused teacher is not asked for."""
    values = {"partition": partition, "distil_from": teachers}
    options, _ = resolve(SPECS["dnc"].options, values, "dnc")
    student = load_recipe(SPECS["dnc"])(100.0, options)
    expected = {"both": 6, "base": 1, "experts": 5}[teachers]
    assert len(set(map(repr, student.teachers))) == expected
    assert student.options["teachers"] == teachers
    assert (student.groups is None) == (teachers == "base")


def test_listing_imports_no_torch() -> None:
    """Listing, planning and loading a recipe must start in a moment."""
    code = (
        "import sys; from methods import discover, load_recipe; found = discover();"
        "load_recipe(found['dnc']); sys.exit('torch' in sys.modules or len(found) < 8)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, check=False).returncode == 0
    )


def test_plugin_inherits(tmp_path: Path) -> None:
    """A plug-in file may derive from a shipped method; its options are read and loaded."""
    (tmp_path / "warm.py").write_text(GOOD)
    spec = discover([tmp_path])["warm"]
    assert spec.options["temperature"].default == 0.5
    assert spec.options["extra"].default == 3
    assert spec.views == SPECS["simclr"].views
    cls = load(spec)
    assert options_of(cls.Config) == spec.options
    assert load(spec) is cls


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def (", r"bad.py:1: not valid Python"),
        ("x = 1", r"defines no method"),
        (GOOD.replace('"warm"', '"simclr"'), r"'simclr' is defined twice: .*simclr.py.*bad.py"),
        (GOOD.replace("0.5, above", "HALF, above"), r"bad.py:13: the default of option .* literal"),
        (GOOD.replace("int = 3", "int"), r"bad.py:14: option 'extra' needs a default"),
        (GOOD.replace('("warm")', '("not a name")'), r"bad.py:8: a method needs a name"),
        (
            "import torch\nfrom methods import recipe\n@recipe('r')\ndef r(epochs, options): ...",
            r"bad.py:1: a module with a recipe must not import torch",
        ),
    ],
)
def test_bad_plugin_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    """What is wrong with a plug-in is said in one line that names the file."""
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        discover([file])
    assert "\n" not in str(caught.value) and "bad.py" in str(caught.value)


def test_missing_plugin_and_failing_import(tmp_path: Path) -> None:
    """A path that is not there, and a file that reads well but cannot be imported."""
    with pytest.raises(ValueError, match="does not exist"):
        discover([tmp_path / "none.py"])
    (tmp_path / "broken.py").write_text(GOOD + "\nimport no_such_module\n")
    with pytest.raises(ValueError, match="method 'warm': .*broken.py cannot be imported"):
        load(discover([tmp_path])["warm"])


def test_contract_at_registration() -> None:
    """A class that contradicts the interface is refused with its place and the contradiction."""

    class Bad(Method):
        def loss(self, views: object) -> object: ...

    with pytest.raises(ValueError, match=r"method 'bad' \(.*py:\d+\): `loss\(self, views\)` must"):
        register("bad")(Bad)
    with pytest.raises(ValueError, match="is trainable and has no `loss"):
        register("bad")(type("Empty", (Method,), {}))


def test_unknown_method() -> None:
    """The nearest name is offered."""
    with pytest.raises(ValueError, match="Did you mean 'simclr'"):
        named("simcrl")


def test_options() -> None:
    """Names, types and ranges are checked, all problems at once."""
    options = SPECS["simclr"].options
    values = {
        "temprature": 1,
        "temperature": 0,
        "hidden_dim": 1.5,
        "head_layers": 4,
        "output_dim": True,
        "variant": "released",
    }
    resolved, problems = resolve(options, values, "method.simclr")
    assert len(problems) == 5 and all(p.startswith("method.simclr: ") for p in problems)
    assert any("Did you mean 'temperature'" in p for p in problems)
    assert any("must be > 0, got 0" in p for p in problems)
    assert resolved["temperature"] == 0.1
    resolved, problems = resolve(options, {"temperature": 1}, "method.simclr")
    assert not problems and isinstance(resolved["temperature"], float)
    assert resolve(options, {"temperature": float("nan")}, "x")[1]
    with pytest.raises(ValueError, match="one of 2, 3"):
        build(load(SPECS["simclr"]).Config, {"head_layers": 1}, "here")
    assert option(1, choices=[1, 2]).metadata["choices"] == (1, 2)


def test_method_files_stay_short() -> None:
    """A method is one file that can be read at a sitting."""
    files = sorted({spec.file for spec in SPECS.values()})
    assert len(files) >= 6
    for file in files:
        text = file.read_text()
        assert len(text.splitlines()) <= 120, file.name
        assert "arXiv" in text or file.name == "references.py", file.name
        assert ast.get_docstring(ast.parse(text)), file.name
