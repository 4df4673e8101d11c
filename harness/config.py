"""From a command line to a checked configuration.

hydra composes `grid`, `scale`, `launcher` and `data`; what comes out is plain dicts and lists.
Every problem of a request is collected and reported at once, before any work starts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
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
# The data of a request that names none: its studies lie in results/GRID-SCALE/.
DATA = "photos"
KEY = re.compile(r"^(\+\+|\+|~)?([A-Za-z_][\w.\-]*)=", re.DOTALL)


def choices(group: str) -> dict[str, Path]:
    """The names that `group=NAME` takes, each with its file."""
    return {path.stem: path for path in sorted((CONF / group).glob("*.yaml"))}


def folder_name(grid: str, scale: str, data: str = "") -> str:
    """The folder of a study below results: GRID-SCALE, or GRID-SCALE-DATA on other images."""
    return f"{grid}-{scale}" + (f"-{data}" if data not in ("", DATA) else "")


def named(grid: str, scale: str, data: str = "") -> str:
    """The arguments by which every door finds a study."""
    return f"grid={grid} scale={scale}" + (f" data={data}" if data not in ("", DATA) else "")


def compose(arguments: Sequence[str]) -> dict[str, Any]:
    """The resolved configuration of a command line.

    Raises Problems naming every argument that is not understood, with the valid names.
    """
    config, problems = examine(arguments)
    if problems:
        raise Problems(problems)
    return config


def examine(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The configuration as far as it is understood, and every problem of the arguments.

    Empty where a group is wrong: what else the values are depends on it.
    """
    of_groups = list(_group_problems(arguments))
    overrides = [_normalise(argument) for argument in arguments if KEY.match(argument)]
    wrong = {key for key, value in _pairs(arguments) if _is_wrong(key, value)}
    base = _hydra([o for o in overrides if _key(o) in GROUPS and _key(o) not in wrong])
    valid = {*GROUPS, *_paths(base), *_paths({group: _anything(group) for group in wrong})}
    strange = [key for key in dict.fromkeys(map(_key, overrides))
               if key not in valid and not _is_open(key)]
    problems = [*of_groups, *_key_problems(strange, valid)]
    if of_groups:
        return {}, problems
    config = _hydra([o for o in overrides if _key(o) not in strange])
    chosen = dict(_pairs(arguments)).get("data", DATA)
    return {**config, "changed": _changed(arguments), "data_name": chosen}, problems


def _pairs(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """(key, value) of each argument that is one."""
    matches = [(argument, KEY.match(argument)) for argument in arguments]
    return [(match[2], argument[match.end():]) for argument, match in matches if match]


def _key(override: str) -> str:
    match = KEY.match(override)
    assert match is not None, override
    return match[2]


def _is_wrong(key: str, value: str) -> bool:
    return key in GROUPS and value not in choices(key)


def _anything(group: str) -> dict[str, Any]:
    """What any choice of a group has: a key that is in none of them is wrong with each."""
    return merged(*map(_plain, choices(group).values()))


def _plain(path: Path) -> dict[str, Any]:
    """One file of a group, its references unresolved."""
    from omegaconf import OmegaConf

    found = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(found, dict), path
    return {str(key): value for key, value in found.items()}


def _changed(arguments: Sequence[str]) -> list[str]:
    """The arguments that may change a number, beside the names of groups: what a paper's table at
    its own scale then no longer is."""
    return [argument for argument in arguments if (match := KEY.match(argument))
            and match[2] not in GROUPS and not match[2].startswith(HARMLESS)
            and not match[2].endswith(".path")]


def _normalise(argument: str) -> str:
    """Let `method.NAME.option=value` and other open mappings take new keys without hydra's '+'."""
    match = KEY.match(argument)
    if match and match[1] is None and _is_open(match[2]):
        return f"++{argument}"
    return argument


def _is_open(key: str) -> bool:
    return any(key.startswith(f"{prefix}.") for prefix in OPEN)


def _group_problems(arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        if not KEY.match(argument):
            yield (f"'{argument}' is not understood; arguments are key=value, for instance "
                   "grid=curation_gap (see --help)")
    pairs = _pairs(arguments)
    for key, value in pairs:
        if _is_wrong(key, value):
            yield str(unknown(key, value, choices(key)))
    yield from _table_problems(dict(pairs))


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


def _key_problems(strange: Collection[str], valid: Collection[str]) -> Iterator[str]:
    """A line for each key that is not valid: the first part of it that is wrong, and what may stand
    in its place."""
    wrong = {}
    for key in strange:
        parts = key.split(".")
        depth = next(n for n in range(1, len(parts) + 1) if ".".join(parts[:n]) not in valid)
        wrong[".".join(parts[:depth])] = ".".join(parts[:depth - 1])
    for key, parent in wrong.items():
        beside = [path for path in valid if path.rpartition(".")[0] == parent]
        others = [f"{group}={name}" for group in GROUPS if key.startswith(f"{group}.")
                  for name, path in choices(group).items() if key in _paths({group: _plain(path)})]
        yield (f"unknown option '{key}': it belongs to {', '.join(others)}" if others
               else str(unknown("option", key, beside or [parent])))


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
