"""A published cell at a scale: what is trained, on what, how it is scored, and what then differs.

At the scale `paper` a fill is taken as published. Any other scale has a twin of the table: data
sets become the scale's roles, the largest budget of the table becomes the scale's epochs and the
others keep their ratio to it, learning rates keep their ratio to the recipe's, and sizes (of heads,
queues, groups, ...) are the scale's where it has its own and a method's rows on one data set agree;
frozen networks are scored by `linear`, whatever linear protocol the paper has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from datasets import SOURCES
from methods.registry import MethodSpec

from .config import merged
from .declared import absent
from .errors import UserError
from .evaluation import evaluations
from .papers import Cell, PaperTable
from .stages import canonical, digest
from .study import Condition, Row, dataset

PAPER = "paper"
# Options that are sizes: cut to a scale's images unless they are what the table is about.
SIZES = ("hidden_dim", "output_dim", "queue_size", "prototypes", "groups", "k", "support_size",
         "top_k", "memory_multiplier", "negatives")
# What a twin does for every linear evaluation of a frozen network: minutes less on a CPU.
FROZEN = "linear"
# Data sets that every evaluation tests on 224 of 256 pixels; others only those that crop, since
# frozen features of them are of centre squares at the image size in DnC (appendix F.1).
CENTRED = ("imagenet", "imagenet100", "places365")
Fill = Mapping[str, Any]


@dataclass(frozen=True)
class Filling:
    """A published cell at a scale: the row, condition, evaluation and metric, or why there is none.

    `place` is the position of the row and the name of the column; `differs` is what forbids a
    verdict; `budget` and `group` are the published epochs and data, by which rows are compared.
    `derived` says of which cells the number is made, where it is no run of its own.
    """

    table: str
    place: tuple[int, str]
    row: str = ""
    condition: str = ""
    evaluation: str = ""
    metric: str = ""
    differs: tuple[str, ...] = ()
    reason: str = ""
    budget: float = 0.0
    group: str = ""
    derived: str = ""


@dataclass
class Scale:
    """Collects the rows, conditions, protocols and targets that the cells of tables ask for."""

    config: Mapping[str, Any]
    specs: Mapping[str, MethodSpec]
    backbone: Callable[[Mapping[str, Any]], dict[str, Any]]
    rows: dict[str, Row] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)
    protocols: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, Any] = field(default_factory=dict)
    resolved: dict[str, Any] = field(default_factory=dict)

    def fillings(self, table: PaperTable) -> list[Filling]:
        """Every published cell of a table, row by row."""
        found = []
        for position, row in enumerate(table.rows):
            for cell in (c for c in table.cells if c.key == table.key(row)):
                fill = cell.fill or cell.stand_in
                empty = Filling(table.id, (position, cell.column), reason=cell.why_not)
                found.append(self._filling(table, empty, fill, cell) if fill else empty)
        return found

    def _filling(self, table: PaperTable, empty: Filling, fill: Fill, cell: Cell) -> Filling:
        try:
            asked = replace(
                empty, condition=self.condition(table, fill), row=self._row(table, fill),
                evaluation=self.evaluation(table, fill), metric=str(fill["metric"]), reason="")
        except UserError as error:
            return replace(empty, reason=str(error))
        return replace(asked, budget=float(fill["epochs"]), group=str(fill["pretrain"]["dataset"]),
                       differs=(*([f"data: {cell.why_not}"] if cell.why_not else []),
                                *([f"schedule: the paper does not state the epochs; {cell.assumed}"]
                                  if cell.assumed else []), *self.differs(table, fill)))

    def _row(self, table: PaperTable, fill: Fill) -> str:
        name = str(fill["method"])
        if name not in self.specs:
            raise UserError(f"the method is not here: {name}")
        rates = {method: values["base_lr"] / values["recipe_lr"]
                 for method, values in fill.get("training", {}).items()}
        row = self.settings(table, fill, Row("", "", self.specs[name], rates=rates))
        epochs = float(row.training["epochs"])
        own = [dict(row.options), {k: v for k, v in row.training.items() if k != "epochs"},
               dict(row.backbone), dict(row.views), dict(row.rates), row.epoch_images]
        key = f"{name}-{epochs:g}" + (f"-{digest(own)[:6]}" if any(own) else "")
        label = f"{self.config['labels'].get(name, name)}, {epochs:g} epochs"
        if chosen := ", ".join(f"{k} {v}" for k, v in {**row.options, **row.views}.items()):
            label += f", {chosen}"
        self.rows.setdefault(key, replace(row, id=key, label=label))
        return key

    def protocol(self, fill: Fill) -> str:
        """The evaluation's name, or that of a protocol with the fill's options and layer."""
        base, options = str(fill["evaluation"]), dict(fill.get("evaluation_options", {}))
        given = merged(self.config.get("protocols") or {}).get(base) or {}
        evaluation = str(given.get("evaluation", base))
        if evaluation not in evaluations():
            raise UserError(f"the evaluation is not here: {evaluation}")
        if (metric := str(fill["metric"])) not in (
                found := evaluations()[evaluation].may_return(_own_metric(str(fill["target"])))):
            raise UserError(f"'{evaluation}' has no metric {metric}: {', '.join(found)}")
        layer = options.pop("layer", None)
        if not options and layer is None:
            return base
        told = {**options, **({"layer": layer} if layer else {})}
        name = "_".join([base, *(f"{k}{_plain(v)}" for k, v in told.items())])
        if not name.replace("_", "").replace(".", "").isalnum() or len(name) > 40:
            name = f"{base}_{digest(told)[:6]}"
        self.protocols[name] = merged(
            given, {"evaluation": evaluation, "options": options,
                    "label": f"{base} " + " ".join(f"{k} {_plain(v)}" for k, v in told.items())},
            {"layer": layer} if layer else {})
        return name

    def condition(self, table: PaperTable, fill: Fill) -> str:
        """The id of the images that are trained on."""
        raise NotImplementedError

    def settings(self, table: PaperTable, fill: Fill, row: Row) -> Row:
        """The row with its options, training, network, views and unit of epochs."""
        raise NotImplementedError

    def evaluation(self, table: PaperTable, fill: Fill) -> str:
        """The id of the evaluation, with its target."""
        raise NotImplementedError

    def differs(self, table: PaperTable, fill: Fill) -> list[str]:
        """What of this scale is not what was published."""
        raise NotImplementedError

    def note(self, table: PaperTable) -> str:
        """How the table's budgets became this scale's, for people."""
        raise NotImplementedError


class Published(Scale):
    """The scale `paper`: names of data sets are sources, epochs and settings are as published."""

    def condition(self, table: PaperTable, fill: Fill) -> str:
        """The data set, with its image size where that is not the scale's."""
        name, size = self._named(table, fill, str(fill["pretrain"]["dataset"]))
        role = fill["pretrain"]["role"]
        if name not in self.conditions:
            spec = self._spec(str(fill["pretrain"]["dataset"]), size, whole=True)
            self.conditions[name] = Condition(name, name, spec, role=str(role))
        return name

    def settings(self, table: PaperTable, fill: Fill, row: Row) -> Row:
        """As published."""
        own = merged(table.setting, fill.get("setting"))
        network = self.backbone(own["backbone"]) if own.get("backbone") else {}
        return replace(
            row, options=dict(fill.get("options", {})), backbone=network,
            training={**own.get("training", {}), "epochs": float(fill["epochs"])},
            views={**own.get("views", {}), **fill.get("views", {})},
            epoch_images=table.epoch_images)

    def evaluation(self, table: PaperTable, fill: Fill) -> str:
        """NAME@TARGET, the target at the image size of the row."""
        name, size = self._named(table, fill, str(fill["target"]))
        source, whole = str(fill["target"]), self._photographed(fill)
        given = merged((self.config.get("targets") or {}).get(source))
        spec = self._spec(source, size, whole=whole)
        if whole and source not in CENTRED and spec["options"].get("whole"):
            name += "-whole"
        place = {k: spec[k] for k in ("path", "options", "image_size")}
        self.targets[name] = {"source": source, **given, **place}
        return f"{self.protocol(fill)}@{name}"

    def differs(self, table: PaperTable, fill: Fill) -> list[str]:
        """What the command line has changed, what the fill names, and how images are cropped."""
        changed = self.config.get("changed") or ()
        return [*([f"schedule: {', '.join(changed)}"] if changed else []),
                *fill.get("differs", ()), *self._cropped(fill)]

    def _cropped(self, fill: Fill) -> Iterator[str]:
        """What differs where data.options.whole=false leaves a photograph's centre square only.

        The papers crop views from whole photographs, and test on 224 pixels of a shorter side of
        256.
        """
        def square(name: str) -> bool:
            source = SOURCES.get(name)
            options = self._spec(name, 0, whole=True)["options"]
            return source is not None and source.squares and not options.get("whole")

        if square(str(fill["pretrain"]["dataset"])):
            yield ("data: pre-training crops are taken from the centre square of each photograph, "
                   "published: from all of it")
        if self._photographed(fill) and square(str(fill["target"])):
            yield ("protocol: tested on the centre square at the image size, published: on 224 of "
                   "256 pixels of the shorter side"
                   + (", trained on crops of all of it" if self._crops(fill) else ""))

    def _crops(self, fill: Fill) -> bool:
        """Whether the evaluation trains on crops."""
        base = str(fill["evaluation"])
        named = merged(self.config.get("protocols") or {}).get(base) or {}
        return evaluations()[str(named.get("evaluation", base))].takes == "encoder"

    def _photographed(self, fill: Fill) -> bool:
        """Whether the evaluation is of whole photographs of its target."""
        return self._crops(fill) or str(fill["target"]) in CENTRED

    def note(self, table: PaperTable) -> str:
        """Epochs as published, and in what unit."""
        unit = f", of {table.epoch_images:,} images each" if table.epoch_images else ""
        return f"as published: data sets by name, epochs{unit}, the recipes' settings"

    def _named(self, table: PaperTable, fill: Fill, dataset: str) -> tuple[str, int]:
        usual = int(self.config["scale"]["image_size"])
        size = int(merged(table.setting, fill.get("setting")).get("image_size", usual))
        return (dataset if size == usual else f"{dataset}-{size}px"), size

    def _spec(self, name: str, size: int, *, whole: bool) -> dict[str, Any]:
        """Published images; `whole` photographs, where they are files, unless said otherwise."""
        data, known = self.config["data"], (self.config.get("targets") or {}).get(name) or {}
        own = data if data["source"] == name else {}
        options = dict(known.get("options") or own.get("options") or {})
        reader = SOURCES.get(str(known.get("source", name)))
        if whole and reader is not None and "whole" in reader.options():
            options = {"whole": True, **options}
        return {"source": name, "path": known.get("path") or own.get("path"), "image_size": size,
                "options": options, "size": None, "controls": {}}


class Twin(Scale):
    """Any other scale: roles for data sets, shares of its epochs for budgets."""

    def condition(self, table: PaperTable, fill: Fill) -> str:
        """The scale's role."""
        role, roles = str(fill["pretrain"]["role"]), self.config["scale"]["roles"]
        if role not in roles:
            raise UserError(f"no counterpart at this scale: it has no role '{role}' "
                            f"({', '.join(roles)})")
        self._check_classes(role)
        return role

    def _check_classes(self, role: str) -> None:
        """A role of a few classes needs images enough in them; UserError where there are not."""
        data, scale = self.config["data"], self.config["scale"]
        given = merged(scale["roles"][role], (data.get("roles") or {}).get(role))
        size = data.get("size")
        if "diversity" not in (given.get("controls") or {}):
            return
        spec = {"source": data["source"], "path": data.get("path"),
                "image_size": scale["image_size"], "options": data.get("options") or {},
                "size": size.get(scale["name"]) if isinstance(size, Mapping) else size,
                "controls": given["controls"]}
        try:
            dataset(spec, 0, self.resolved)
        except UserError as error:
            raise UserError(f"no counterpart at this scale: role '{role}': {error}") from None

    def settings(self, table: PaperTable, fill: Fill, row: Row) -> Row:
        """The scale's settings with the options that the table is about."""
        scale = (self.config["scale"].get("methods") or {}).get(row.spec.name) or {}
        sized = set(scale.get("options") or {}) & set(SIZES) - self._varied(table, fill)
        options = {k: v for k, v in fill.get("options", {}).items() if k not in sized}
        return replace(row, options=options, views=dict(fill.get("views", {})),
                       training={"epochs": self._epochs(table, fill)})

    def evaluation(self, table: PaperTable, fill: Fill) -> str:
        """The scale's labelled images for the main data set; another target must be at hand."""
        name, target = self.protocol(self._scored(fill)), str(fill["target"])
        if target in ("imagenet", fill["pretrain"]["dataset"], *self.config["scale"]["roles"]):
            return name
        given = merged((self.config.get("targets") or {}).get(target))
        size = int(self.config["scale"]["image_size"])
        spec = {"source": target, "path": None, "options": {}, **given, "image_size": size}
        if absent(spec):
            raise UserError(f"no counterpart at this scale: {target} is not at hand; set "
                            f"targets.{target}.path=PLACE")
        return f"{name}@{target}"

    def differs(self, table: PaperTable, fill: Fill) -> list[str]:
        """The scale, its images and its schedule."""
        scale, data = self.config["scale"], self.config["data"]
        return [f"scale: {scale['name']}, {scale['backbone']['name']} at {scale['image_size']} px",
                f"data: {data['source']}{self._few(fill)} for {fill['pretrain']['dataset']}",
                f"schedule: {self._epochs(table, fill):g} epochs for {fill['epochs']:g}, batch "
                f"{scale['training']['batch_size']}",
                *([f"protocol: scored on {self._whole(fill)}{data['source']} for {fill['target']}"]
                  if fill["target"] != data["source"] else []),
                *([f"protocol: {self.protocol(self._scored(fill))} for {self.protocol(fill)}"]
                  if self._scored(fill) != fill else [])]

    def _few(self, fill: Fill) -> str:
        role = self.config["scale"]["roles"][fill["pretrain"]["role"]]
        few = (role.get("controls") or {}).get("diversity")
        return f", {few['classes']} of its classes," if few else ""

    def _whole(self, fill: Fill) -> str:
        """A role of a few classes is not scored alone: the test images are of all of them."""
        return "all classes of " if fill["target"] in self.config["scale"]["roles"] else ""

    def note(self, table: PaperTable) -> str:
        """The ratio of epochs, and what is the scale's own."""
        budgets = self._budgets(table)
        epochs = float(self.config["scale"]["training"]["epochs"])
        ratio = f"{max(budgets):g} published epochs are {epochs:g} here, ratios between rows kept" \
            if budgets else "nothing of it can be filled"
        return (f"a twin at {self.config['scale']['name']} scale, not the published table: "
                f"{ratio}; batch, optimiser, heads and queues are the scale's, learning rates keep "
                "their ratio to the recipe's")

    def _scored(self, fill: Fill) -> Fill:
        """The fill with the scale's own linear evaluation, and no more neighbours than there are a
        quarter of labelled images."""
        if str(fill["evaluation"]).startswith(FROZEN):
            return {**fill, "evaluation": FROZEN, "evaluation_options": {}}
        options = dict(fill.get("evaluation_options", {}))
        labelled = self.config["data"].get("labelled")
        if isinstance(labelled, Mapping):
            labelled = labelled.get(self.config["scale"]["name"])
        if labelled and options.get("k"):
            options["k"] = min(options["k"], max(1, int(labelled) // 4))
        return {**fill, "evaluation_options": options}

    def _epochs(self, table: PaperTable, fill: Fill) -> float:
        share = float(fill["epochs"]) / max(self._budgets(table))
        return float(f"{share * float(self.config['scale']['training']['epochs']):.6g}")

    @staticmethod
    def _budgets(table: PaperTable) -> list[float]:
        fills = [cell.fill or cell.stand_in for cell in table.cells]
        return [float(fill["epochs"]) for fill in fills if fill]

    @staticmethod
    def _varied(table: PaperTable, fill: Fill) -> set[str]:
        """Options in which the table's rows of a method on the same data differ."""
        fills: Sequence[Fill] = [f for c in table.cells if (f := c.fill or c.stand_in)]
        chosen = [f.get("options", {}) for f in fills
                  if (f["method"], f["pretrain"]) == (fill["method"], fill["pretrain"])]
        return {name for options in chosen for name in options
                if len({canonical(other.get(name)) for other in chosen}) > 1}


def at(config: Mapping[str, Any], specs: Mapping[str, MethodSpec],
       backbone: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Scale:
    """The collector for the scale of a configuration; `backbone` completes a network's options."""
    kind = Published if config["scale"]["name"] == PAPER else Twin
    return kind(config, specs, backbone)


def _own_metric(target: str) -> str:
    """The metric of the transfer protocol on a data set."""
    return str(getattr(SOURCES.get(target), "metric", "top1"))


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
