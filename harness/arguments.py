"""`key=value` arguments of the small doors, and where a study lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .config import folder_name
from .errors import UserError, unknown

BOOLEANS = {"true": True, "false": False}
# The folder that everything is written to, unless results=DIR names another.
RESULTS = "results"


def parse(arguments: list[str], defaults: Mapping[str, str], door: str) -> dict[str, str]:
    """`key=value` arguments over their defaults; UserError names what is not understood."""
    options = dict(defaults)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name not in defaults:
            raise unknown("argument", name, defaults, door)
        if not equals or not value:
            raise UserError(f"{door}: '{argument}' has no value; write {name}=VALUE")
        options[name] = value
    return options


def boolean(name: str, value: str, door: str) -> bool:
    """"true" or "false" as a bool; UserError for anything else."""
    if value not in BOOLEANS:
        raise unknown(f"value of {name}", value, BOOLEANS, door)
    return BOOLEANS[value]


def wants_help(arguments: list[str]) -> bool:
    """Whether a person asked what the command does."""
    return bool({"-h", "--help", "help"} & set(arguments))


def studies(results: Path) -> list[str]:
    """The names of the studies under a results folder: GRID-SCALE or GRID-SCALE-DATA."""
    if not results.is_dir():
        raise UserError(f"{results} is no folder; name the store's root with results=DIR")
    return sorted(path.parent.name for path in results.glob("*/study.json"))


def named(options: Mapping[str, str], door: str) -> str:
    """The study that grid=NAME or table=NAME names, "" for none of them.

    Raises UserError where both are given or no table has that name.
    """
    if not options["table"]:
        return options["grid"]
    if options["grid"]:
        raise UserError(f"{door}: grid and table are both given; name one of them")
    from .table_study import select, study_name

    select(options["table"])
    return study_name(options["table"])


def of_scale(results: Path, scale: str) -> list[str]:
    """The names of the studies of one scale."""
    return [name for name in studies(results)
            if json.loads((results / name / "study.json").read_text()).get("scale") == scale]


def find(results: Path, grid: str, scale: str, data: str = "") -> Path:
    """The folder of a study, also by its whole name; UserError lists the studies that exist."""
    found = studies(results)
    if not grid:
        raise UserError(f"no grid is named; write grid=NAME or table=NAME (in {results}: "
                        f"{', '.join(found) or 'no study yet'})")
    name = grid if grid in found else folder_name(grid, scale, data)
    if name not in found:
        raise unknown("study", name, found, str(results))
    return results / name
