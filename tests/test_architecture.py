"""The house rules that a test can hold: imports go down, small files and functions, all typed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

PACKAGES = ("harness", "methods", "datasets")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
# Planning, listing and reporting must work where torch is not installed.
NO_TORCH = ("harness.sweep", "harness.plan", "harness.study", "harness.store", "harness.records",
            "harness.report", "harness.status", "harness.list", "harness.check", "harness.data",
            "harness.evaluation", "harness.launch.inline", "harness.explain", "harness.pricing",
            "harness.paper_layout", "harness.launch.detached",
            "harness.launch.allocation", "harness.cancel", "harness.claim_sheet",
            "harness.figures_ranks", "methods.registry", "datasets")


def imports(path: Path) -> Iterator[str]:
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else ()
            yield ".".join([*above, node.module or ""]).rstrip(".")


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 60 and sum(1 for path in FILES for _ in functions(path)) > 500


@pytest.mark.parametrize(("package", "above"), [
    ("methods", ("harness", "datasets")), ("datasets", ("harness", "methods"))])
def test_imports_go_down(package: str, above: tuple[str, ...]) -> None:
    up = [f"{path.relative_to(ROOT)} imports {name}" for path in FILES
          if path.relative_to(ROOT).parts[0] == package
          for name in imports(path) if name.split(".")[0] in above]
    assert not up


def test_evaluations_know_no_method() -> None:
    files = sorted((ROOT / "harness/evaluation").glob("*.py"))
    allowed = {"methods.options"}
    up = [f"{path.name} imports {name}" for path in files for name in imports(path)
          if name.split(".")[0] == "methods" and name not in allowed]
    assert len(files) > 5 and not up


@pytest.mark.parametrize("module", NO_TORCH)
def test_no_torch_at_import(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_files_and_functions_are_small() -> None:
    long = [f"{path.relative_to(ROOT)}: {lines} lines" for path in FILES
            if (lines := len(path.read_text().splitlines())) > 400]
    long += [f"{path.relative_to(ROOT)}:{node.name}: {size} lines" for path in FILES
             for node in functions(path)
             if (size := (node.end_lineno or 0) - node.lineno + 1) > 60]
    assert not long


def test_a_method_is_one_short_file() -> None:
    files = [path for path in sorted((ROOT / "methods").glob("*.py")) if "@register" in
             path.read_text() and path.stem not in ("registry", "references")]
    assert len(files) >= 5
    long = [f"{path.name}: {lines}" for path in files
            if (lines := len(path.read_text().splitlines())) > 120]
    assert not long


def test_public_functions_are_documented_and_typed() -> None:
    public = [(path, node) for path in FILES for node in _public(path)
              if not node.name.startswith("_") and node.name != "forward"]
    bare = [f"{path.relative_to(ROOT)}:{node.lineno} {node.name}" for path, node in public
            if node.returns is None or ast.get_docstring(node) is None]
    assert len(public) > 200 and not bare


def _public(path: Path) -> list[ast.FunctionDef]:
    """Functions and methods that are not inside another function."""
    tree = ast.parse(path.read_text())
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)
               and not n.name.startswith("_")]
    nodes = [*tree.body, *(n for c in classes for n in c.body)]
    return [n for n in nodes if isinstance(n, ast.FunctionDef)]


def test_nothing_is_evaluated_or_unpickled() -> None:
    found = []
    for path in FILES:
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec",
                                                                         "pickle.load",
                                                                         "pickle.loads"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
        loads = re.findall(r"torch\.load\(.*", text)
        found += [f"{path.name}: {call}" for call in loads if "weights_only=True" not in call]
    assert not found
