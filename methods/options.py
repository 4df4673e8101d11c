"""Options: a dataclass field that carries its range, its choices and where its default comes from.

The field is the only place where an option is written down. Its schema is read from the class at
run time (`options_of`) or from the source text without importing it (`methods.reading`), and both
are the same mapping of `Option`. No torch here: planning a grid imports this module.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

RANGES = {"above": ">", "at_least": ">=", "at_most": "<=", "below": "<"}
FACTS = ("help", *RANGES, "choices", "source", "added")


@dataclass(frozen=True)
class Option:
    """One option: its name, its type as it is written in the class, its default and its limits."""

    name: str
    type: str
    default: Any
    help: str = ""
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] | None = None
    source: str = ""
    added: bool = False


def option(
    default: Any,
    *,
    help: str = "",
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] | None = None,
    source: str = "",
    added: bool = False,
) -> Any:
    """Return a dataclass field with limits; `source` says which paper or file the default is from.

    `added`: the option came after there were results; at its default, which must mean what was
    done before, it is in no key, so that those results still count (see `keyed`).

    Every argument must be a literal, so that the schema can be read without importing the module.
    """
    facts = {
        "help": help,
        "above": above,
        "at_least": at_least,
        "at_most": at_most,
        "below": below,
        "choices": None if choices is None else tuple(choices),
        "source": source,
        "added": added,
    }
    return field(default=default, metadata=facts)


def options_of(config: type) -> dict[str, Option]:
    """Return the options of a dataclass in the order of its fields.

    Raises ValueError when a field has no default: every option must have one.
    """
    return dict(_options_of(config))


@functools.cache  # the fields of a class do not change, and a plan asks for them at every stage
def _options_of(config: type) -> dict[str, Option]:
    found = {}
    for entry in dataclasses.fields(config):
        if entry.default is MISSING:
            raise ValueError(f"option '{entry.name}' of {config.__qualname__} needs a default")
        kind = entry.type if isinstance(entry.type, str) else entry.type.__name__
        found[entry.name] = Option(entry.name, kind, entry.default, **entry.metadata)
    return found


def unknown(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return the one line that answers a name nobody knows: the nearest ones and all of them."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} '{name}'.{hint} Available: {', '.join(names) or 'none'}"


def _split(kind: str) -> list[str]:
    """Split 'float | None' into its alternatives."""
    return [part.strip() for part in kind.split("|")]


def _fit_one(value: Any, kind: str) -> tuple[bool, Any]:
    """Return whether a value is of one plain type, and the value in that type."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "None":
        return value is None, None
    if kind == "float":
        fits = number and math.isfinite(value)
        return fits, float(value) if fits else value
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool), value
    if kind.startswith("tuple["):
        if not isinstance(value, (list, tuple)):
            return False, value
        parts = [_fit_one(item, kind[6:].split(",")[0].rstrip("]").strip()) for item in value]
        return all(fits for fits, _ in parts), tuple(item for _, item in parts)
    plain = {"str": str, "bool": bool, "dict": dict}.get(kind.split("[")[0])
    if plain is None:
        raise ValueError(f"option type '{kind}' is not supported; use bool, int, float, str, tuple")
    return isinstance(value, plain), value


def _fit(value: Any, kind: str) -> tuple[bool, Any]:
    """Return whether a value fits one of the alternatives of a type, and the value in it."""
    for part in _split(kind):
        fits, converted = _fit_one(value, part)
        if fits:
            return True, converted
    return False, value


def _beyond(limits: Option, value: Any) -> str | None:
    """Return what is wrong with the range of a value, or None."""
    if limits.choices is not None and value not in limits.choices:
        return f"must be one of {', '.join(map(str, limits.choices))}"
    values = value if isinstance(value, tuple) else (value,)
    for fact, sign in RANGES.items():
        limit = getattr(limits, fact)
        for item in values:
            if limit is None or item is None:
                continue
            holds = {">": item > limit, ">=": item >= limit, "<=": item <= limit, "<": item < limit}
            if not holds[sign]:
                return f"must be {sign} {limit}"
    return None


def resolve(
    options: Mapping[str, Option], values: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], list[str]]:
    """Complete values with defaults and check names, types and ranges.

    Returns the resolved mapping (every option, in schema order; an int given for a float becomes a
    float, so that 1 and 1.0 are the same setting) and the problems found, one line each, starting
    with `where`. A value with a problem is left at its default.
    """
    problems = []
    for name in values:
        if name not in options:
            problems.append(f"{where}: {unknown('option', str(name), options)}")
    resolved = {}
    for name, limits in options.items():
        resolved[name] = limits.default
        if name not in values:
            continue
        fits, value = _fit(values[name], limits.type)
        wrong = _beyond(limits, value) if fits else f"must be of type {limits.type}"
        if wrong:
            problems.append(f"{where}: option '{name}' {wrong}, got {values[name]!r}")
        else:
            resolved[name] = value
    return resolved, problems


def keyed(options: Mapping[str, Option], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a stage's key covers of resolved values: all but an `added` one at its default.

    What is left out is completed by `build` where the stage is done.
    """
    return {
        name: value
        for name, value in resolved.items()
        if not options[name].added or value != options[name].default
    }


def setting(options: Mapping[str, Option], given: Mapping[str, Any], name: str) -> Any:
    """Return the value of an option among those that a key covers."""
    return given[name] if name in given else options[name].default


def build(config: type[T], values: Mapping[str, Any], where: str) -> T:
    """Return an instance of a config dataclass; ValueError with all problems in one line."""
    resolved, problems = resolve(options_of(config), values, where)
    if problems:
        raise ValueError("; ".join(problems))
    return config(**resolved)
