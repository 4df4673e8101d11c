"""A study: the grid of a configuration with every name resolved and every value checked.

Rows are methods (or variants of one), columns are conditions of the data, and a cell is one row,
one condition, one seed and one evaluation. Nothing here reads an image or imports torch.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from datasets import dense, recipes
from methods.options import resolve
from methods.registry import MethodSpec, discover

from . import schema
from .config import DATA, folder_name, merged, named
from .errors import Problems, UserError, unknown
from .evaluation.shots import RULE, RULES
from .headline import headline
from .protocols import Protocol, check_headline, protocols
from .store import sha256
from .training.settings import BACKBONES

if TYPE_CHECKING:
    from .table_study import Wanted


@dataclass(frozen=True)
class Row:
    """One row of the table: a method, its share of the epochs and what it overrides.

    A paper's row may also have a network, views and learning rates of its own (`rates`: method of
    its recipe -> factor on the rate), and count its epochs in images of another data set
    (`epoch_images`). None and empty: the scale's, and passes over the images of the run.
    """

    id: str
    label: str
    spec: MethodSpec
    budget: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    reference: bool = False
    backbone: Mapping[str, Any] = field(default_factory=dict)
    views: Mapping[str, Any] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    epoch_images: int | None = None
    checkpoint: str = ""  # the file that a row's weights are from


@dataclass(frozen=True)
class Request:
    """An explicit cell of a study: a row on a condition with a seed, by these evaluations."""

    row: str
    condition: str
    seed: int
    evaluations: tuple[str, ...]


@dataclass(frozen=True)
class Condition:
    """One column: images (source, controls, total) that a method is pre-trained on."""

    id: str
    label: str
    data: Mapping[str, Any]
    level: float | None = None
    role: str | None = None


@dataclass(frozen=True)
class Study:
    """Everything that the plan needs, checked."""

    name: str
    scale: str
    config: Mapping[str, Any]
    methods: Mapping[str, MethodSpec]
    rows: tuple[Row, ...]
    conditions: tuple[Condition, ...]
    seeds: tuple[int, ...]
    evaluations: Mapping[str, Protocol]
    labelled: Mapping[str, Any]
    training: Mapping[str, Any]
    backbone: Mapping[str, Any]
    image_size: int
    results: Path
    plugins: tuple[Path, ...] = ()
    # none: the full product of rows, conditions, seeds and evaluations
    requests: tuple[Request, ...] = ()
    # what the cells of papers' tables ask, and what a row at this scale cannot be; see table_study
    papers: Mapping[str, Any] = field(default_factory=dict)
    # data that is not at hand is planned by its declared counts: for a price, not for a run
    provisional: bool = False
    # the data=NAME of the request: studies of other images than usual have folders of their own
    data: str = DATA
    notes: tuple[str, ...] = ()

    def asked(self) -> tuple[Request, ...]:
        """Every cell that is wanted, rows outermost."""
        return self.requests or tuple(
            Request(row.id, condition.id, seed, tuple(self.evaluations))
            for row in self.rows for condition in self.conditions for seed in self.seeds)

    @property
    def folder(self) -> Path:
        """Where this study's tables, figures and report lie."""
        return self.results / folder_name(self.name, self.scale, self.data)

    @property
    def named(self) -> str:
        """The arguments by which the other doors find this study."""
        found = named(self.name, self.scale, self.data)
        return f"{found} results={shlex.quote(str(self.results))}"


def resolve_study(config: Mapping[str, Any]) -> Study:
    """Check a composed configuration and return the study it describes.

    Raises Problems with every problem found.
    """
    problems: list[str] = []
    plugins = tuple(Path(p).expanduser() for p in _plugins(config["plugins"], problems))
    specs = _methods(plugins, problems)
    grid, scale = config["grid"], config["scale"]
    training = schema.checked(schema.Training, scale["training"], "scale.training", problems)
    tables = _tables(config, specs, problems)
    config = tables.config if tables else config
    _check_name(str(config["grid"]["name"]), problems)
    grid, labelled = config["grid"], _labelled(config)
    seeds = tuple(schema.seeds(grid["seeds"], "grid.seeds", problems))
    study = Study(
        name=str(grid["name"]), scale=str(scale["name"]), config=config, methods=specs,
        rows=tables.rows if tables else _rows(config, specs, problems),
        conditions=tables.conditions if tables and tables.conditions
        else _conditions(config, problems),
        seeds=seeds,
        evaluations=protocols(config, labelled, problems),
        labelled=labelled, training=training, backbone=_backbone(scale, problems),
        image_size=int(scale["image_size"]),
        results=Path(str(config["results"])).expanduser(), plugins=plugins,
        requests=tables.requests(seeds) if tables else (), papers=tables.papers if tables else {},
        provisional=bool(tables and config["dry_run"] is True),
        data=str(config.get("data_name", DATA)),
    )
    check_headline(config, study.evaluations, problems)
    study = replace(study, notes=tuple(_other_headline(config, study.evaluations, problems)))
    _check_method_settings(config, specs, problems)
    _check_views(study.rows, config["scale"].get("views"), problems)
    if (rule := grid.get("shots_rule", RULE)) not in RULES:
        problems.append(str(unknown("rule", str(rule), RULES, "grid.shots_rule")))
    if problems:
        raise Problems(dict.fromkeys(problems))
    return study


def _check_name(name: str, problems: list[str]) -> None:
    """A study's name is that of a folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        problems.append(f"grid.name: '{name}' is no name of a folder: letters, digits, '_', '-' "
                        "and '.'")


def _other_headline(config: Mapping[str, Any], asked: Mapping[str, Protocol],
                    problems: list[str]) -> Iterator[str]:
    """A line where the grid's headline is an evaluation that is not asked."""
    given = config["grid"]["headline"]
    wanted = str(given["evaluation"]), str(given["metric"])
    found = headline(wanted, {name: asked[name].metrics for name in asked})
    if found == wanted:
        return
    if any(a.startswith("grid.headline.evaluation=") for a in config.get("changed") or ()):
        problems.append(str(unknown("evaluation", wanted[0], asked, "grid.headline.evaluation")))
    yield (f"grid.evaluations leaves out {wanted[0]}, this grid's headline: the tables lead with "
           f"{found[0]}, {found[1]} (or set grid.headline.evaluation and grid.headline.metric)")


def _tables(config: Mapping[str, Any], specs: Mapping[str, MethodSpec],
            problems: list[str]) -> Wanted | None:
    """What `table=NAME` asks for; None for a grid."""
    if not config.get("table"):
        return None
    from .table_study import wanted

    return wanted(config, specs, lambda given: _backbone({"backbone": given}, problems))


def _plugins(value: Any, problems: list[str]) -> Sequence[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        problems.append(f"plugins: must be a list of files or folders, got {value!r}")
        return []
    for path in value:
        if not Path(path).expanduser().exists():
            problems.append(f"plugins: {path} does not exist")
            return []
    return value


def _methods(plugins: Sequence[Path], problems: list[str]) -> dict[str, MethodSpec]:
    try:
        return discover(plugins)
    except ValueError as error:
        problems.append(str(error))
        return discover(())


def _rows(config: Mapping[str, Any], specs: Mapping[str, MethodSpec],
          problems: list[str]) -> tuple[Row, ...]:
    grid = config["grid"]
    variants = schema.mapping(grid.get("variants"), "grid.variants", problems)
    scale, labels = config["scale"].get("variants") or {}, config["labels"]
    rows = []
    for name in schema.names(grid["methods"], "grid.methods", problems):
        variant = merged(variants[name], scale.get(name)) if variants.get(name) else {}
        method = str(variant.pop("method", "checkpoint" if "checkpoint" in variant else name))
        if method not in specs:
            listed = {n for n, s in specs.items() if "teachers" not in s.needs} | set(variants)
            problems.append(str(unknown("method", method, listed, "grid.methods")))
            continue
        row = _row(name, specs[method], variant, labels, problems)
        rows.append(row)
    return tuple(rows)


def _row(name: str, spec: MethodSpec, variant: dict[str, Any], labels: Mapping[str, str],
         problems: list[str]) -> Row:
    where = f"grid.variants.{name}"
    label = str(variant.pop("label", labels.get(name, name)))
    budget = variant.pop("budget", 1.0)
    reference = bool(variant.pop("reference", not spec.trainable or "labels" in spec.needs))
    options = schema.mapping(variant.pop("options", {}), where, problems)
    training = schema.mapping(variant.pop("training", {}), where, problems)
    checkpoint = variant.pop("checkpoint", None)
    if spec.name == "checkpoint" or checkpoint is not None:
        options = {**options, **_weights(checkpoint, spec, where, problems)}
    row = Row(name, label, spec, budget, options, training, reference,
              checkpoint=str(checkpoint or ""))
    _, found = resolve(spec.options, row.options, f"{where}.options")
    problems.extend(found)
    if not isinstance(budget, (int, float)) or not 0 < budget <= 1:
        problems.append(f"{where}.budget: must be in (0, 1], got {budget!r}")
    for key in variant:
        problems.append(str(unknown("option", key, ("method", "label", "budget", "options",
                                                    "training", "reference", "checkpoint"), where)))
    return row


def _weights(path: Any, spec: MethodSpec, where: str, problems: list[str]) -> dict[str, str]:
    """The options of a row whose weights are a file: its content, so that the key covers it."""
    if spec.name != "checkpoint":
        problems.append(f"{where}: weights of a file are a row of their own: leave out method")
    elif not isinstance(path, str) or not Path(path).expanduser().is_file():
        problems.append(f"{where}.checkpoint: must be a file of weights, got {path!r}")
    else:
        return {"sha256": sha256(Path(path).expanduser())}
    return {}


def _conditions(config: Mapping[str, Any], problems: list[str]) -> tuple[Condition, ...]:
    if config["grid"].get("axis"):
        return _axis_conditions(config, problems)
    roles = merged(config["scale"]["roles"], config["data"].get("roles"))
    conditions = []
    for name in schema.names(config["grid"]["conditions"], "grid.conditions", problems):
        if name not in roles:
            problems.append(str(unknown("condition", name, roles, "grid.conditions")))
            continue
        role = dict(roles[name] or {})
        label = str(role.pop("label", name))
        conditions.append(Condition(name, label, _data(config, role), role=name))
    return tuple(conditions)


def _axis_conditions(config: Mapping[str, Any], problems: list[str]) -> tuple[Condition, ...]:
    """Conditions that differ in one parameter of one control; axis.controls are common to all."""
    axis = config["grid"]["axis"]
    control, parameter = axis["control"], axis["parameter"]
    values = axis["values"]
    if not isinstance(values, list) or len(values) < 2 or not all(
            isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        problems.append(f"grid.axis.values: must be a list of at least 2 numbers, got {values!r}")
        return ()
    return tuple(
        Condition(f"{parameter}={value:g}", f"{value:g}",
                  _data(config, {"controls": merged(axis.get("controls"),
                                                    {control: {parameter: value}})}),
                  level=float(value))
        for value in values)


def _data(config: Mapping[str, Any], role: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a role. Another source has its own place and options; null undoes a control."""
    data, scale = config["data"], config["scale"]
    own = role.get("source", data["source"]) == data["source"]
    found = merged(
        {"source": data["source"], "path": data.get("path") if own else None,
         "image_size": scale["image_size"], "options": data.get("options") or {} if own else {},
         "size": _size(data.get("size"), scale["name"]), "controls": {}}, role)
    controls = found["controls"] or {}
    return {**found, "size": _size(found["size"], scale["name"]),
            "controls": {name: value for name, value in controls.items() if value is not None}}


def _size(sizes: Any, scale: str) -> int | None:
    """`data.size`: a number, or one for each scale; None: the largest that all conditions have."""
    return sizes.get(scale) if isinstance(sizes, Mapping) else sizes


def _backbone(scale: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """`scale.backbone` with every default of the network filled in, since the key covers it."""
    given = schema.mapping(scale["backbone"], "scale.backbone", problems)
    name = str(given.pop("name", ""))
    if name not in BACKBONES:
        problems.append(str(unknown("backbone", name, BACKBONES, "scale.backbone.name")))
        return {}
    return {"name": name,
            **schema.checked(BACKBONES[name], given, f"scale.backbone ({name})", problems)}


def _labelled(config: Mapping[str, Any]) -> dict[str, Any]:
    """The labelled images that every encoder of the study is evaluated on: the same for all."""
    spec = _data(config, {})
    spec["size"] = _size(config["data"].get("labelled"), config["scale"]["name"])
    return spec


def _check_method_settings(config: Mapping[str, Any], specs: Mapping[str, MethodSpec],
                           problems: list[str]) -> None:
    """`scale.methods.NAME` and `method.NAME`: names, options and training settings."""
    scale = schema.mapping(config["scale"].get("methods"), "scale.methods", problems)
    for name, settings in scale.items():
        where = f"scale.methods.{name}"
        if name not in specs:
            problems.append(str(unknown("method", name, specs, "scale.methods")))
            continue
        parts = schema.mapping(settings, where, problems)
        for part in set(parts) - {"options", "training"}:
            problems.append(str(unknown("setting", part, ("options", "training"), where)))
        problems.extend(resolve(specs[name].options, parts.get("options") or {},
                                f"{where}.options")[1])
        schema.checked(schema.Training, parts.get("training") or {}, f"{where}.training", problems)
    for name, values in schema.mapping(config["method"], "method", problems).items():
        if name not in specs:
            problems.append(str(unknown("method", name, specs, "method")))
        else:
            problems.extend(resolve(specs[name].options, values or {}, f"method.{name}")[1])


def _check_views(rows: Sequence[Row], overrides: Any, problems: list[str]) -> None:
    """`scale.views` by itself, and with it the views that each row's method names."""
    values = schema.mapping(overrides, "scale.views", problems)
    if found := recipes.problems((), values):
        problems.extend(f"scale.views: {line}" for line in found)
        values = {}
    for spec in (row.spec for row in rows):
        where = f"method '{spec.name}'{' with scale.views' if values else ''}: views"
        problems.extend(f"{where}: {line}" for line in recipes.problems(spec.views or (), values))


def left_out(spec: Mapping[str, Any]) -> list[str]:
    """What options of the data leave out, for the plan to say."""
    return datasets.left_out(spec) if spec.get("options") and spec["source"] in datasets.SOURCES \
        else []


def dataset(spec: Mapping[str, Any], seed: int, cache: dict[str, Any]) -> dict[str, Any]:
    """A data spec with its fingerprint, from `datasets.resolve`; equal specs are resolved once."""
    key = repr((sorted(spec.items(), key=str), seed))
    if key not in cache:
        try:
            find = dense.resolve if spec.get("source") in dense.READERS else datasets.resolve
            cache[key] = find({**spec, "seed": seed})
        except (ValueError, FileNotFoundError) as error:
            raise UserError(str(error)) from None
    return dict(cache[key])
