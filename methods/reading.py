"""Read methods and recipes from source text, without importing it.

Importing a method imports torch (seconds); listing and planning must not. So a method's name,
class attributes and options are read from the syntax tree. The price is that they must be
literals; anything else is refused with its file and line.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from methods.options import Option

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Module:
    """One source file: its top-level classes and functions and the names it imports."""

    file: Path
    tree: ast.Module
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)


def parse(file: Path) -> Module:
    """Parse one file. Raises ValueError naming the file and the line that is not Python."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(f"{file}:{error.lineno}: not valid Python: {error.msg}") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{file}: not a Python source file: {error}") from None
    module = Module(file, tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            module.classes[node.name] = node
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                module.imports[name.asname or name.name] = (node.module, name.name)
    return module


def literal(module: Module, node: ast.expr, what: str) -> Any:
    """Return the value of a literal; ValueError naming file:line if it is not one."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        place = f"{module.file}:{node.lineno}"
        raise ValueError(f"{place}: {what} must be a literal, got {ast.unparse(node)}") from None


def decorations(node: ast.ClassDef | Function, called: str) -> Iterator[ast.Call]:
    """Yield the decorators of a definition that call `called(...)` or `module.called(...)`."""
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call):
            function = decorator.func
            name = function.attr if isinstance(function, ast.Attribute) else None
            if called in (name, function.id if isinstance(function, ast.Name) else None):
                yield decorator


def attributes(module: Module, node: ast.ClassDef, known: frozenset[str]) -> dict[str, Any]:
    """Return the literal values of those class attributes whose names are known."""
    found = {}
    for entry in node.body:
        if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
            name, value = entry.target.id, entry.value
        elif isinstance(entry, ast.Assign) and isinstance(entry.targets[0], ast.Name):
            name, value = entry.targets[0].id, entry.value
        else:
            continue
        if name in known and value is not None:
            found[name] = literal(module, value, f"class attribute '{name}'")
    return found


def options(module: Module, config: ast.ClassDef) -> dict[str, Option]:
    """Return the options that a Config class declares itself, in order."""
    found = {}
    for entry in config.body:
        if not isinstance(entry, ast.AnnAssign) or not isinstance(entry.target, ast.Name):
            continue
        name, value = entry.target.id, entry.value
        place = f"{module.file}:{entry.lineno}"
        if value is None:
            raise ValueError(f"{place}: option '{name}' needs a default")
        facts: dict[str, Any] = {}
        if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("option"):
            if len(value.args) != 1:
                raise ValueError(f"{place}: option '{name}': write option(default, help=...)")
            facts = {
                str(word.arg): literal(module, word.value, f"'{word.arg}' of option '{name}'")
                for word in value.keywords
            }
            value = value.args[0]
        if facts.get("choices") is not None:
            facts["choices"] = tuple(facts["choices"])
        default = literal(module, value, f"the default of option '{name}'")
        found[name] = Option(name, ast.unparse(entry.annotation), default, **facts)
    return found


def nested(node: ast.ClassDef, name: str) -> ast.ClassDef | None:
    """Return the class of that name in the body of a class."""
    inner = (entry for entry in node.body if isinstance(entry, ast.ClassDef))
    return next((entry for entry in inner if entry.name == name), None)


Resolver = Callable[[Module, str], "tuple[Module, ast.ClassDef] | None"]


def bases(module: Module, node: ast.ClassDef, find: Resolver) -> list[tuple[Module, ast.ClassDef]]:
    """Return the base classes whose source is known, in the order written."""
    names = (base.id for base in node.bases if isinstance(base, ast.Name))
    return [found for found in (find(module, name) for name in names) if found]


def inherited_attributes(
    module: Module, node: ast.ClassDef, known: frozenset[str], find: Resolver
) -> dict[str, Any]:
    """Return the known class attributes of a class, those of its bases included."""
    found: dict[str, Any] = {}
    for parent in reversed(bases(module, node, find)):
        found |= inherited_attributes(*parent, known, find)
    return found | attributes(module, node, known)


def inherited_options(module: Module, node: ast.ClassDef, find: Resolver) -> dict[str, Option]:
    """Return the options of a method class: those of its bases' Config, then its own.

    A Config that names no base (or `object`) starts empty, as it does in Python.
    """
    config = nested(node, "Config")
    found: dict[str, Option] = {}
    if config is None:
        for known in reversed(bases(module, node, find)):
            found |= inherited_options(*known, find)
        return found
    for base in reversed(config.bases):
        owner = base.value if isinstance(base, ast.Attribute) else None
        parent = find(module, owner.id) if isinstance(owner, ast.Name) else None
        if parent:
            found |= inherited_options(*parent, find)
    return found | options(module, config)


def refuse_torch(module: Module) -> None:
    """Raise ValueError if a module imports torch when it is imported (recipes must not)."""
    for node in module.tree.body:
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        heavy = [n for n in names if n.split(".")[0] in ("torch", "torchvision")]
        heavy += [n for n in names if n == "methods.base" or n.startswith("methods.parts")]
        if heavy:
            raise ValueError(
                f"{module.file}:{node.lineno}: a module with a recipe must not import {heavy[0]}:"
                " planning imports it; move the import into the method's own file"
            )
