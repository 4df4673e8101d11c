"""What a file of a published table may hold; whatever else is refused by name. No torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError, unknown

MEASURED_BY = ("authors", "quoted", "unstated")
ROLES = ("role", "dataset")
FILL = ("method", "options", "views", "pretrain", "epochs", "evaluation", "target", "metric",
        "evaluation_options", "training", "setting", "differs")
SETTING = ("backbone", "image_size", "training", "views")
# A learning rate per 256 images as published, beside that of the recipe at hand.
RATES = ("base_lr", "recipe_lr")
ASSUMED = ("epochs", "why")
# In what a cell here may be unlike the published one.
DIFFERS = ("data", "schedule", "protocol", "method")


def check_value(value: Any, kind: str, name: str, where: str) -> None:
    """A number or null in a column of values, one value in a key column."""
    if kind == "value" and value is not None and not is_number(value):
        raise UserError(f"{where}: {name} is '{value}', not a number; write one or null")
    if isinstance(value, (list, dict)):
        raise UserError(f"{where}: {name} is a {type(value).__name__}; write one value")


def check_source(source: Any, sources: Collection[str], where: str) -> None:
    """Each part, up to a semicolon, begins with the name of one of the table's sources."""
    if not isinstance(source, str) or not source.strip():
        raise UserError(f"{where} has no source; name where the numbers were seen")
    for part in source.split(";"):
        name = part.strip().replace(":", " ").split(" ")[0]
        if name not in sources:
            raise unknown("source", name, sources, where)


def check_fill(fill: Any, where: str) -> None:
    """The keys of a fill, each of its kind."""
    if fill is None:
        return
    check_keys(fill, FILL, f"{where}: fill", optional=FILL)
    for name in ("options", "views", "evaluation_options"):
        check_mapping(fill.get(name, {}), f"{where}: fill: {name}")
    if "pretrain" in fill:
        check_keys(fill["pretrain"], ROLES, f"{where}: fill: pretrain")
    for name, values in fill.get("training", {}).items():
        check_keys(values, RATES, f"{where}: fill: training: {name}")
    check_setting(fill.get("setting", {}), f"{where}: fill: setting")
    if not all(isinstance(line, str) and line.partition(": ")[0] in DIFFERS
               for line in listed(fill.get("differs", [f"{DIFFERS[0]}: "]), f"{where}: differs")):
        raise UserError(f"{where}: fill: differs: a list of lines that begin with "
                        f"{' or '.join(DIFFERS)}, a colon and a space")
    if "epochs" in fill and not is_number(fill["epochs"]):
        raise UserError(f"{where}: fill: epochs is '{fill['epochs']}', not a number")


def check_setting(setting: Any, where: str) -> None:
    """The keys of a setting."""
    check_keys(setting, SETTING, where, optional=SETTING)
    for name in ("backbone", "training", "views"):
        check_mapping(setting.get(name, {}), f"{where}: {name}")


def check_assumed(assumed: Any, where: str) -> None:
    """Epochs that a paper does not state: how many are taken, and why these."""
    if assumed is None:
        return
    check_keys(assumed, ASSUMED, f"{where}: assumed")
    if not is_number(assumed["epochs"]) or not str(assumed["why"]).strip():
        raise UserError(f"{where}: assumed: state a number of epochs, and why these")


def differences_of(data: Any, named: Mapping[str, Any],
                   where: str) -> dict[str, tuple[str, str]]:
    """By column, the two cells of a difference as texts; UserError where they are not two."""
    check_mapping(data, f"{where}: differences")
    for name, parts in data.items():
        if name not in named:
            raise unknown("column", name, named, f"{where}: differences")
        if named[name] is None or not isinstance(parts, list) or len(parts) != 2:
            raise UserError(f"{where}: differences: {name}: name two cells of a number that is "
                            "there: [minuend, subtrahend]")
    return {name: (str(parts[0]), str(parts[1])) for name, parts in data.items()}


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML mapping; read by libyaml, where it is there, in a tenth of the time."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except yaml.YAMLError as error:
        raise UserError(f"{path.name}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path.name}: a mapping is expected, this is {type(found).__name__}")
    return found


def check_keys(data: Any, allowed: Collection[str], where: str,
               optional: Collection[str] = ()) -> None:
    """Raise UserError unless `data` is a mapping with all of `allowed` but perhaps `optional`."""
    check_mapping(data, where)
    for name in data:
        if name not in allowed:
            raise unknown("key", str(name), allowed, where)
    if lacking := [name for name in allowed if name not in data and name not in optional]:
        raise UserError(f"{where} lacks {', '.join(lacking)}")


def check_mapping(data: Any, where: str) -> None:
    """Raise UserError unless `data` is a mapping."""
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: a mapping is expected, this is {type(data).__name__}")


def listed(data: Any, where: str) -> list[Any]:
    """A list with something in it; UserError else."""
    if not isinstance(data, list) or not data:
        raise UserError(f"{where}: a list with something in it is expected")
    return data


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no truth value."""
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and math.isfinite(value))
