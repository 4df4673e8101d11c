"""The plan: the stages that a study needs, each once, in order, minus what the store holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import datasets
from methods.limits import broken
from methods.options import keyed, resolve
from methods.recipe import Cluster, Pretrain
from methods.registry import MethodSpec, load_recipe

from . import declared, schema
from .config import merged
from .errors import Problems, UserError, unknown
from .launch import local
from .launch.resources import shape
from .protocols import Protocol
from .shares import shares
from .stages import Stage, canonical, in_order
from .store import Store
from .study import Condition, Request, Row, Study, dataset, left_out

HEAD_LAYERS = ("hidden", "output")  # what a features stage embeds beside the pooled layer's


@dataclass(frozen=True)
class Cell:
    """One number to be: a row, a condition, a seed, an evaluation, and the stage that fills it."""

    row: Row
    condition: Condition
    seed: int
    evaluation: str
    stage: Stage

    @property
    def features(self) -> Stage | None:
        """The features that are scored; None where the evaluation takes the encoder itself."""
        return self.stage.inputs.get("features")

    @property
    def encoder(self) -> Stage:
        """The pretraining whose network is scored."""
        return (self.features or self.stage).inputs["encoder"]


@dataclass(frozen=True)
class Plan:
    """All cells of a study, the stages they need, and which of these are in the store."""

    study: Study
    cells: tuple[Cell, ...]
    done: frozenset[str]
    class_counts: Mapping[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()  # settings that run but may not be what is meant
    places: Mapping[str, str] = field(default_factory=dict)  # a data set's fingerprint -> path
    # (row, condition) of a paper's table that this scale cannot have, and why
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @cached_property
    def stages(self) -> list[Stage]:
        """Every stage once, after its inputs."""
        return in_order(cell.stage for cell in self.cells)

    @cached_property
    def todo(self) -> list[Stage]:
        """What must run: a stage whose descendants are all done is not needed again."""
        needed: dict[str, Stage] = {}

        def visit(stage: Stage) -> None:
            if stage.key in self.done or stage.key in needed:
                return
            for parent in stage.inputs.values():
                visit(parent)
            needed[stage.key] = stage

        for cell in self.cells:
            visit(cell.stage)
        return list(needed.values())

    def shared(self) -> list[tuple[Stage, list[str]]]:
        """Pre-training stages that more than one row uses, with the rows' labels."""
        users: dict[str, dict[str, None]] = {}
        stages: dict[str, Stage] = {}
        for cell in self.cells:
            for stage in in_order([cell.stage]):
                if stage.kind == "pretrain":
                    stages[stage.key] = stage
                    users.setdefault(stage.key, {})[cell.row.label] = None
        return [(stages[key], list(rows)) for key, rows in users.items() if len(rows) > 1]

    def counts(self) -> list[tuple[str, int, int]]:
        """(kind, stages in all, stages to run), in order of the kinds."""
        total = Counter(stage.kind for stage in self.stages)
        todo = Counter(stage.kind for stage in self.todo)
        return [(kind, total[kind], todo[kind]) for kind in total]


def make_plan(study: Study, store: Store) -> Plan:
    """Work out every cell of the study and what is still to be computed.

    Raises Problems with everything that cannot be met (data missing, too few images, ...).
    """
    builder = _Builder(study)
    cells = tuple(builder.cells())
    builder.lacking({cell.evaluation for cell in cells})
    if builder.problems:
        raise Problems(dict.fromkeys(builder.problems))
    return Plan(study, cells, frozenset(store.committed()), builder.class_counts,
                tuple(dict.fromkeys(builder.cautions)), builder.places, builder.refused)


class _Builder:
    """Turns rows, conditions and seeds into stages; equal stages are one object."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.problems: list[str] = []
        self.cautions: list[str] = []
        self.class_counts: dict[tuple[str, int], tuple[int, ...]] = {}
        self.places: dict[str, str] = {}
        self.refused: dict[tuple[str, str], str] = {}
        self._layerless: dict[str, dict[str, str]] = {}
        self._datasets: dict[str, Any] = {}
        self._memo: dict[Any, Stage] = {}
        self._settings: dict[Any, Any] = {}
        self._shape = shape(study.config, local.gpus)

    def cells(self) -> Iterator[Cell]:
        """Every cell of the grid, rows outermost."""
        scored = {name: self._dataset(asked.data, 0, f"target '{asked.target}'" if asked.target
                                      else "evaluation images")
                  for name, asked in self.study.evaluations.items()}
        self.cautions += [a.caution for a in self.study.evaluations.values() if a.caution]
        total = self._total()
        if self.problems:  # the source itself: asking every condition would repeat it
            return
        data = {(c.id, seed): self._dataset(
                    c.data if _sized(c) else {**c.data, "size": total}, seed, f"condition '{c.id}'")
                for c in self.study.conditions for seed in self.study.seeds}
        if self.problems:
            return
        for place, spec in data.items():
            assert spec is not None
            self.class_counts[place] = tuple(spec["class_counts"])
        rows = {row.id: row for row in self.study.rows}
        conditions = {condition.id: condition for condition in self.study.conditions}
        for asked in self.study.asked():
            yield from self._row_cells(rows[asked.row], conditions[asked.condition], asked,
                                       data[asked.condition, asked.seed], scored)

    def _dataset(self, spec: Mapping[str, Any], seed: int, what: str) -> dict[str, Any] | None:
        try:
            found = dataset(spec, seed, self._datasets)
            self.cautions += left_out(spec)
            if spec.get("path"):
                self.places[found["fingerprint"]] = str(spec["path"])
            place = (datasets.foreign(spec) or {}).get("path")
            if place and (other := datasets.foreign(found)):
                self.places[other["fingerprint"]] = str(place)
            return found
        except UserError as error:
            if self.study.provisional and (counted := declared.stand_in(spec, seed)):
                self.cautions.append(counted["caution"])
                return dict(counted["data"])
            known = {problem.split(": ", 1)[1] for problem in self.problems}
            self.problems.extend(f"{what}: {line}" for line in str(error).splitlines()
                                 if line not in known)
            return None

    def _total(self) -> int | None:
        """The largest total that every condition can have, where the configuration names none.

        Found by bisection: if a control can be satisfied at some total, it can at any smaller one.
        """
        if self.study.requests:  # each data set of a paper is as large as it is
            return None
        open_ = [c for c in self.study.conditions if not _sized(c)]
        whole = [self._dataset({**c.data, "controls": {}}, 0, f"condition '{c.id}'") for c in open_]
        if not open_ or self.problems:
            return None
        low, high = 1, min(int(spec["images"]) for spec in whole if spec)
        while low < high:
            middle = (low + high + 1) // 2
            fits = all(self._fits({**c.data, "size": middle}) for c in open_)
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    def _fits(self, spec: Mapping[str, Any]) -> bool:
        try:
            return all(dataset(spec, seed, self._datasets) for seed in self.study.seeds)
        except UserError:
            return False

    def _row_cells(self, row: Row, condition: Condition, request: Request, data: Any,
                   scored: Mapping[str, Any]) -> Iterator[Cell]:
        seed = request.seed
        try:
            encoder = self._encoder(row, data, seed)
        except UserError as error:
            if self.study.requests:  # one row of a paper's table that a scale cannot have
                self.refused[row.id, condition.id] = str(error)
            else:
                self.problems.append(str(error))
            return
        embedded: dict[tuple[str, bool], Stage] = {}
        for name in request.evaluations:
            asked, layers = self.study.evaluations[name], row.spec.layers
            if not layers or asked.layer in layers:
                yield Cell(row, condition, seed, name, self._evaluate(
                    asked, encoder, scored[name], seed, embedded))
                continue
            self._layerless.setdefault(name, {})[row.id] = (
                f"evaluation '{name}' is of the layer '{asked.layer}', which '{row.id}' lacks: it "
                f"has {' and '.join(layers)}")

    def lacking(self, asked: set[str]) -> None:
        """Cells of a layer that their method lacks are left out; refused where it is every one."""
        for name, lines in self._layerless.items():
            self.cautions += [f"{line}; it is left out" for line in lines.values()]
            self.problems += () if name in asked else lines.values()

    def _evaluate(self, asked: Protocol, encoder: Stage, labelled: Mapping[str, Any], seed: int,
                  embedded: dict[tuple[str, bool], Stage]) -> Stage:
        """The stage that fills a cell; what is at its default is named in no key.

        embedded: the features of this encoder so far, by data set and whether they are the head's.
        """
        training = self.study.training
        params: dict[str, Any] = {
            "evaluation": asked.evaluation.name, "revision": asked.evaluation.revision,
            "options": asked.evaluation.keyed(asked.options), "threads": training["threads"],
            **asked.facts}
        if asked.metric != "top1":
            params["metric"] = asked.metric
        if asked.layer != "pooled":
            params["layer"] = asked.layer
        if asked.evaluation.takes == "encoder":
            params |= {"data": strip(labelled), "precision": training["precision"], "seed": seed}
            return self._stage("evaluate", params, {"encoder": encoder})
        place = labelled["fingerprint"], asked.layer != "pooled"
        if place not in embedded:
            embedding = {"data": strip(labelled), "precision": training["precision"],
                         "threads": training["threads"]}
            if place[1]:  # all of the head in one forward, whichever layer is asked first
                embedding["layers"] = list(HEAD_LAYERS)
            embedded[place] = self._stage("features", embedding, {"encoder": encoder})
        return self._stage("evaluate", params, {"features": embedded[place]})

    def _stage(self, kind: str, params: dict[str, Any], inputs: dict[str, Stage]) -> Stage:
        stage = Stage(kind, params, inputs)
        return self._memo.setdefault(stage.key, stage)

    def _encoder(self, row: Row, data: Mapping[str, Any], seed: int) -> Stage:
        if row.checkpoint:
            self.places[str(row.options["sha256"])] = row.checkpoint
        epochs = self._epochs(row.spec, row) * _epoch(row, data)
        if row.spec.kind == "recipe":
            options = self._options(row.spec, row)
            try:
                node = load_recipe(row.spec)(epochs, options)
            except ValueError as error:
                raise UserError(f"method '{row.id}': {error}") from None
        else:
            node = Pretrain(row.spec.name, epochs)
        return self._pretrain(node, row, data, seed)

    def _epochs(self, spec: MethodSpec, row: Row) -> float:
        return float(self._training(spec.name, row)["epochs"]) * row.budget

    def _options(self, spec: MethodSpec, row: Row,
                 given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Defaults < the scale < the row's variant < method.NAME.option=... < the recipe."""
        key = ("options", spec.name, row.id, canonical(dict(given or {})))
        if key not in self._settings:
            self._settings[key] = self._resolve_options(spec, row, given)
        return dict(self._settings[key])

    def _resolve_options(self, spec: MethodSpec, row: Row,
                         given: Mapping[str, Any] | None) -> dict[str, Any]:
        config = self.study.config
        scale = (config["scale"].get("methods") or {}).get(spec.name) or {}
        own = row.options if spec.name == row.spec.name else {}
        user = config["method"].get(spec.name) or {}
        values = merged(scale.get("options"), own, user, given)
        resolved, problems = resolve(spec.options, values, f"method.{spec.name}")
        if problems:
            raise Problems(problems)
        return resolved

    def _training(self, method: str, row: Row) -> dict[str, Any]:
        """The training settings of a method in a row: the scale's < the method's < the row's."""
        key = ("training", method, row.id)
        if key not in self._settings:
            self._settings[key] = self._resolve_training(method, row)
        return dict(self._settings[key])

    def _resolve_training(self, method: str, row: Row) -> dict[str, Any]:
        scale = self.study.config["scale"]
        own = ((scale.get("methods") or {}).get(method) or {}).get("training")
        problems: list[str] = []
        resolved = schema.checked(schema.Training,
                                  merged(self.study.training, own, row.training),
                                  f"training of '{method}'", problems)
        if problems:
            raise Problems(problems)
        if method in row.rates:
            resolved["lr"] = _digits(resolved["lr"] * row.rates[method])
        return resolved

    def _pretrain(self, node: Pretrain, row: Row, data: Mapping[str, Any],
                  seed: int) -> Stage:
        if node.method not in self.study.methods:
            raise unknown("method", node.method, self.study.methods, f"recipe of '{row.id}'")
        spec = self.study.methods[node.method]
        params: dict[str, Any] = {
            "method": spec.name, "revision": spec.revision,
            "options": keyed(spec.options, self._options(spec, row, node.options)),
            "backbone": dict(row.backbone or self.study.backbone),
            "image_size": data["image_size"] if self.study.requests else self.study.image_size,
            "seed": [seed, node.replica] if node.replica else seed,
        }
        if not spec.trainable:
            return self._stage("pretrain", params, {})
        self._check_limits(spec, self._options(spec, row, node.options), row, data)
        params["data"] = strip(data)
        params["views"] = {**(self.study.config["scale"].get("views") or {}), **row.views}
        params["training"] = schema.keyed({**self._training(spec.name, row), "epochs": node.epochs})
        if self.study.requests:
            params["training"] = _rounded(params["training"], _epoch(row, data))
        inputs = {f"teacher{i}": self._pretrain(teacher, row, data, seed)
                  for i, teacher in enumerate(node.teachers)}
        parts, said = shares(self._shape, spec, params, row.id,
                             None if node.subset else int(data["images"]))
        params |= parts
        self.cautions += said
        division = node.groups or (node.subset[0] if node.subset else None)
        if division is not None:
            inputs["groups"] = self._cluster(division, row, data, seed)
        if node.subset is not None:
            params["subset"] = node.subset[1]
        if node.teacher_view != "same":  # named only where it matters: keys of older runs stay
            params["teacher_view"] = node.teacher_view
        return self._stage("pretrain", params, inputs)

    def _check_limits(self, spec: MethodSpec, options: Mapping[str, Any], row: Row,
                      data: Mapping[str, Any]) -> None:
        """What a method refuses or warns of, before anything runs; the run itself asks again."""
        if "labels" in spec.needs and data.get("unlabelled"):
            raise Problems([f"method '{row.id}': needs labels, which {data['unlabelled']} of "
                            f"{data['images']} images of source '{data['source']}' with these "
                            "controls do not have: leave it out of grid.methods"])
        size = min(self._training(spec.name, row)["batch_size"], int(data["images"]))
        problems = broken(spec.refuses, options, size)
        if problems:
            raise Problems(f"method '{row.id}': {line}" for line in problems)
        self.cautions += [f"method '{row.id}': {line}"
                          for line in broken(spec.warns, options, size)]

    def _cluster(self, node: Cluster, row: Row, data: Mapping[str, Any],
                 seed: int) -> Stage:
        params = {"k": node.k, "by": node.by, "seed": seed, "data": strip(data),
                  "threads": self.study.training["threads"]}
        if node.by == "random":
            return self._stage("cluster", params, {})
        base = self._pretrain(node.base, row, data, seed)
        params |= {"layer": node.layer, "precision": self.study.training["precision"]}
        return self._stage("cluster", params, {"base": base})


def _epoch(row: Row, data: Mapping[str, Any]) -> float:
    """Passes over these images that one epoch of the row is."""
    return row.epoch_images / int(data["images"]) if row.epoch_images else 1.0


def _rounded(training: Mapping[str, Any], epoch: float) -> dict[str, Any]:
    """Epochs to nine digits, so that equal shares of unequal budgets are one stage; the warm-up is
    counted in the row's epochs, and is no more than half of the run."""
    epochs = _digits(training["epochs"])
    warmup = min(training["warmup_epochs"] * epoch, epochs / 2)
    return {**training, "epochs": epochs, "warmup_epochs": _digits(warmup)}


def _digits(value: float) -> float:
    return float(f"{value:.9g}")


def _sized(condition: Condition) -> bool:
    """Whether a condition's total is given, by a number or by what its controls are."""
    return condition.data["size"] is not None or datasets.sized(condition.data["controls"])


def strip(data: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved data spec as it goes into a key: without its place and what follows from it."""
    return {key: value for key, value in data.items() if key not in ("path", "class_counts")}
