"""Find the methods: every file here and in the plug-in paths, with no list to edit.

`discover` reads source text and imports nothing, so it needs no torch; `load` imports the one
file that is wanted.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from methods import reading
from methods.limits import Rules
from methods.options import Option, unknown
from methods.reading import Module
from methods.recipe import Recipe

if TYPE_CHECKING:
    from methods.base import Method

C = TypeVar("C", bound=type)

HERE = Path(__file__).parent
READ = frozenset(
    ("paper", "views", "revision", "keeps", "needs_labels", "needs_teachers", "trainable")
    + ("refuses", "warns", "couples", "dealt", "layers")
)


@dataclass(frozen=True)
class MethodSpec:
    """What planning knows of a method or recipe; all of it read from the source text."""

    name: str
    kind: str
    file: Path
    line: int
    attribute: str
    revision: int
    summary: str
    paper: str
    views: tuple[Any, ...] | None
    needs: tuple[str, ...]
    trainable: bool
    options: dict[str, Option]
    refuses: Rules = ()
    warns: Rules = ()
    couples: str = ""
    dealt: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


def register(name: str) -> Callable[[C], C]:
    """Register a `Method` class under a name, after checking that it keeps the contract.

    Raises ValueError naming the method, its file and line, and the contradiction.
    """

    def check(cls: C) -> C:
        problem = contradiction(cls)
        if problem:
            raise ValueError(f"method '{name}' ({_place(cls)}): {problem}")
        cls.method_name = name  # type: ignore[attr-defined]  # for messages
        return cls

    return check


def _place(cls: type) -> str:
    """Return file:line of a class for a message."""
    try:
        return f"{Path(inspect.getfile(cls)).name}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return cls.__module__


def contradiction(cls: type) -> str | None:
    """Return what in a class contradicts the `Method` contract, or None."""
    expected = {"loss": ["self", "batch"], "after_step": ["self", "progress"]}
    for hook, names in expected.items():
        function = getattr(cls, hook, None)
        if function is None:
            return f"has no `{hook}`; derive the class from methods.base.Method"
        given = list(inspect.signature(function).parameters)
        if given != names:
            return f"`{hook}({', '.join(given)})` must be `{hook}({', '.join(names)})`"
    config = getattr(cls, "Config", None)
    if not (isinstance(config, type) and is_dataclass(config)):
        return "`Config` must be a dataclass"
    for name in ("views", "keeps"):
        if not isinstance(getattr(cls, name), tuple):
            return f"`{name}` must be a tuple"
    if "loss" not in vars(cls) and cls.trainable and not _inherits_loss(cls):  # type: ignore[attr-defined]
        return "is trainable and has no `loss(self, batch)`; add it or set `trainable = False`"
    return None


def _inherits_loss(cls: type) -> bool:
    """Return whether a class between this one and Method defines the loss."""
    return any("loss" in vars(base) and base.__name__ != "Method" for base in cls.__mro__[1:])


def _files(plugins: Sequence[Path]) -> Iterator[Path]:
    """Yield the source files: those of this package, then those of the plug-in paths."""
    yield from sorted(HERE.glob("*.py"))
    for path in map(Path, plugins):
        if not path.exists():
            raise ValueError(f"plug-in path '{path}' does not exist; give a .py file or a folder")
        yield from sorted(path.glob("*.py")) if path.is_dir() else [path]


def discover(plugins: Sequence[Path] = ()) -> dict[str, MethodSpec]:
    """Return every method and recipe by name, sorted, without importing any of them.

    Raises ValueError for a plug-in path without methods, a name that two files define, a value that
    should be a literal, or a recipe that imports torch; each message names file and line.
    """
    modules = {file: reading.parse(file) for file in _files(plugins)}

    def find(module: Module, name: str) -> tuple[Module, ast.ClassDef] | None:
        if name in module.classes:
            return module, module.classes[name]
        source, original = module.imports.get(name, ("", ""))
        known = modules.get(HERE / f"{source.removeprefix('methods.')}.py")
        if known is None or known is module or not source.startswith("methods."):
            return None
        return find(known, original)

    found: dict[str, MethodSpec] = {}
    for file, module in modules.items():
        specs = list(_specs(module, find))
        if not specs and file.parent != HERE and any(Path(p) == file for p in plugins):
            raise ValueError(
                f"plug-in '{file}' defines no method; decorate its class with register"
            )
        for spec in specs:
            if spec.name in found:
                places = [f"{s.file}:{s.line}" for s in (found[spec.name], spec)]
                raise ValueError(f"method '{spec.name}' is defined twice: {' and '.join(places)}")
            found[spec.name] = spec
    return dict(sorted(found.items()))


def _specs(module: Module, find: reading.Resolver) -> Iterator[MethodSpec]:
    """Yield what one module registers."""
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef):
            for call in reading.decorations(node, "register"):
                yield _method_spec(module, node, _name(module, call), find)
        elif isinstance(node, ast.FunctionDef):
            for call in reading.decorations(node, "recipe"):
                yield _recipe_spec(module, node, call)


def _name(module: Module, call: ast.Call) -> str:
    """Return the name that a decorator registers."""
    name = reading.literal(module, call.args[0], "the name") if call.args else None
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{module.file}:{call.lineno}: a method needs a name such as 'my_method'")
    return name


def _summary(node: ast.ClassDef | ast.FunctionDef, module: Module) -> str:
    """Return the first line of a definition's docstring, or of its module's."""
    text = ast.get_docstring(node) or ast.get_docstring(module.tree) or ""
    return text.split("\n")[0]


def _method_spec(
    module: Module, node: ast.ClassDef, name: str, find: reading.Resolver
) -> MethodSpec:
    """Return the specification of a registered class."""
    facts = reading.inherited_attributes(module, node, READ, find)
    needs = [word for word in ("labels", "teachers") if facts.get(f"needs_{word}")]
    return MethodSpec(
        name=name,
        kind="method",
        file=module.file,
        line=node.lineno,
        attribute=node.name,
        revision=facts.get("revision", 1),
        summary=_summary(node, module),
        paper=facts.get("paper", ""),
        views=facts.get("views"),
        needs=(*needs, *facts.get("keeps", ())),
        trainable=facts.get("trainable", True),
        options=reading.inherited_options(module, node, find),
        refuses=facts.get("refuses", ()),
        warns=facts.get("warns", ()),
        couples=facts.get("couples", ""),
        dealt=facts.get("dealt", ()),
        layers=facts.get("layers") or (() if facts.get("trainable", True) else ("pooled",)),
    )


def _recipe_spec(module: Module, node: ast.FunctionDef, call: ast.Call) -> MethodSpec:
    """Return the specification of a recipe function."""
    reading.refuse_torch(module)
    words = {str(word.arg): word.value for word in call.keywords}
    config = words.get("config")
    known = module.classes.get(ast.unparse(config)) if config is not None else None
    if config is not None and known is None:
        raise ValueError(f"{module.file}:{call.lineno}: config must be a class of this file")
    paper, revision = words.get("paper"), words.get("revision")
    return MethodSpec(
        name=_name(module, call),
        kind="recipe",
        file=module.file,
        line=node.lineno,
        attribute=node.name,
        revision=1 if revision is None else reading.literal(module, revision, "revision"),
        summary=_summary(node, module),
        paper="" if paper is None else reading.literal(module, paper, "paper"),
        views=None,
        needs=(),
        trainable=True,
        options={} if known is None else reading.options(module, known),
    )


def _import(file: Path) -> Any:
    """Import the module of a file: by name from this package, by path from elsewhere."""
    if file.parent == HERE:
        return importlib.import_module(f"methods.{file.stem}")
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    name = f"methods_plugin_{file.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"plug-in '{file}' is not a Python file; rename it to end in .py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses with string annotations look their module up here.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _loaded(spec: MethodSpec) -> Any:
    """Import the file of a specification and return what it names."""
    try:
        return getattr(_import(spec.file), spec.attribute)
    except (ImportError, NameError, AttributeError, TypeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"method '{spec.name}': {spec.file} cannot be imported: {cause}"
        ) from error


def load(spec: MethodSpec) -> type[Method]:
    """Import the file of a method and return its class. This imports torch."""
    if spec.kind != "method":
        raise ValueError(f"'{spec.name}' is a {spec.kind}; use load_recipe")
    cls: type[Method] = _loaded(spec)
    return cls


def load_recipe(spec: MethodSpec) -> Recipe:
    """Import the file of a recipe, which must not need torch, and return its function."""
    if spec.kind != "recipe":
        raise ValueError(f"'{spec.name}' is a {spec.kind}; use load")
    function: Recipe = _loaded(spec)
    return function


def named(name: str, plugins: Sequence[Path] = ()) -> MethodSpec:
    """Return one specification; ValueError with the nearest names if there is none."""
    found = discover(plugins)
    if name not in found:
        raise ValueError(unknown("method", name, found))
    return found[name]
