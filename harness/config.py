"""From a command line to a checked configuration.

hydra composes `grid`, `scale`, `launcher` and `data`; what comes out is plain dicts and lists.
Every problem of a request is collected and reported at once, before any work starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import Problems, UserError, unknown

CONF = Path(__file__).parent / "conf"
GROUPS = ("grid", "scale", "launcher", "data")
# Mappings whose keys the user chooses: any name below them is composed, then checked at its use.
OPEN = ("method", "data.options", "data.roles", "grid.variants", "scale.methods", "scale.views",
        "scale.backbone", "scale.roles", "grid.axis", "scale.size", "scale.evaluations",
        "targets", "protocols",
        "launcher.slurm", "launcher.resources", "scale.resources")
# What says where and whether something is run, and with which seeds.
HARMLESS = ("table", "results", "dry_run", "repair", "wait", "plugins", "launcher", "grid.seeds",
            "pricing", "labels", "data.cache", "scale.resources")
KEY = re.compile(r"^(\+\+|\+|~)?([A-Za-z_][\w.\-]*)=", re.DOTALL)


def choices(group: str) -> dict[str, Path]:
    """The names that `group=NAME` takes, each with its file."""
    return {path.stem: path for path in sorted((CONF / group).glob("*.yaml"))}


def compose(arguments: Sequence[str]) -> dict[str, Any]:
    """The resolved configuration of a command line.

    Raises Problems naming every argument that is not understood, with the valid names.
    """
    overrides = [_normalise(argument) for argument in arguments]
    problems = list(_group_problems(arguments))
    if problems:
        raise Problems(problems)
    selections = [o for o in overrides if o.split("=", 1)[0].lstrip("+") in GROUPS]
    base = _hydra(selections)
    problems = list(_key_problems(overrides, base))
    if problems:
        raise Problems(problems)
    return {**_hydra(overrides), "changed": _changed(arguments)}


def _changed(arguments: Sequence[str]) -> list[str]:
    """The arguments that may change a number, beside the names of groups: what a paper's table at
    its own scale then no longer is."""
    matches = [(argument, KEY.match(argument)) for argument in arguments]
    return [argument for argument, match in matches if match and match[2] not in GROUPS
            and not match[2].startswith(HARMLESS) and not match[2].endswith(".path")]


def _normalise(argument: str) -> str:
    """Let `method.NAME.option=value` and other open mappings take new keys without hydra's '+'."""
    match = KEY.match(argument)
    if match and match[1] is None and _is_open(match[2]):
        return f"++{argument}"
    return argument


def _is_open(key: str) -> bool:
    return any(key.startswith(f"{prefix}.") for prefix in OPEN)


def _group_problems(arguments: Sequence[str]) -> Iterator[str]:
    seen = {}
    for argument in arguments:
        match = KEY.match(argument)
        if not match:
            yield (f"'{argument}' is not understood; arguments are key=value, for instance "
                   "grid=curation_gap (see --help)")
            continue
        key, value = match[2], argument[match.end():]
        seen[key] = value
        if key in GROUPS and value not in choices(key):
            yield str(unknown(key, value, choices(key)))
    yield from _table_problems(seen)


def _table_problems(seen: Mapping[str, str]) -> Iterator[str]:
    """Exactly one of grid=NAME and table=NAME, and what of a grid a table has not."""
    if "table" not in seen:
        if "grid" not in seen:
            yield (f"which grid? Give grid=NAME. Available: {', '.join(choices('grid'))}; or "
                   "table=NAME, a published table (python -m harness.list tables)")
        return
    from .table_study import select

    if "grid" in seen:
        yield "grid and table are both given; name one of them"
    try:
        select(seen["table"])
    except UserError as error:
        yield str(error)
    for key in seen:
        if key.startswith("grid.") and key not in ("grid.seeds", "grid.interval.level"):
            yield f"{key}: a table has rows and columns of its own; with table=NAME set grid.seeds"


def _key_problems(overrides: Sequence[str], base: Mapping[str, Any]) -> Iterator[str]:
    valid = set(_paths(base))
    for override in overrides:
        match = KEY.match(override)
        assert match is not None, override
        key = match[2]
        if key in valid or key in GROUPS or _is_open(key):
            continue
        parent = key.rsplit(".", 1)[0] if "." in key else ""
        siblings = {path for path in valid if path.startswith(f"{parent}.")} if parent else set()
        names = siblings or {path for path in valid if "." not in path}
        yield str(unknown("option", key, names))


def _paths(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")


def _hydra(overrides: Sequence[str]) -> dict[str, Any]:
    """Compose with hydra; its errors become one line."""
    # imported here: 0.26 s that --help and the report do not need
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra_compose("sweep", overrides=list(overrides))
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        text = " ".join(str(error).split())
        raise UserError(f"configuration: {text}") from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def merged(*layers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Deep merge; later layers win, and a value of None removes nothing but sets None."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in (layer or {}).items():
            old = result.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[key] = merged(old, value) if both else value
    return result
