"""What papers' tables cost: GPU-hours, disk and jobs, by row and in all, each stage paid for once.

Where the store has step times of the same network they are used. Everything else is counted: the
multiply-adds of the backbone, three forward passes' worth for a view that is trained on (the
backward pass costs two, as DnC counts in table 13), one for a view that a teacher or the clustering
sees, over what a named GPU is assumed to sustain. Heads, decoding and augmentation are not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import schema
from .declared import counts
from .errors import Problems
from .estimate import Rates
from .evaluation import evaluation
from .flops import Cost, cost
from .plan import Plan
from .stages import Stage, in_order
from .store import Store
from .study import Study

# Views that an option adds, and their pixels as a share of a full view's (96 of 224 px a side).
MORE_VIEWS = {"support_size": 1.0, "local_views": (96 / 224) ** 2, "focal_views": (96 / 224) ** 2}
TRAINED = 3.0  # forward passes that a training step of one view costs
# Pixels of an image of a dense evaluation over 224 x 224: COCO at 800 x 1216, then crops
PIXELS = {"detection": 800 * 1216 / 224**2, "segmentation": (513 / 224) ** 2,
          "depth": 228 * 304 / 224**2}
HEAD_PASSES = 1000  # over the features, by an evaluation that fits a classifier to them
STATES = 4  # an artifact is the encoder, and the method's whole state at about three of it
OTHER_BYTES = 50_000  # records, metrics and checksums of a stage


@dataclass(frozen=True)
class Charge:
    """Seconds of one GPU and bytes of one stage; `measured`: from times in the store."""

    seconds: float
    bytes: float
    measured: bool


@dataclass(frozen=True)
class Quote:
    """Prices in seconds and bytes. `rows`: label, what it needs alone, and of that what is to run.

    `seconds` is what is to run, `whole` that and what is paid for already, `alone` the sum if every
    row paid for all it needs, `longest` the chain of dependent stages that no number of GPUs
    shortens, `jobs` the stages to run by kind.
    """

    gpu: str
    teraflops: float
    rows: tuple[tuple[str, float, float], ...]
    seconds: float
    whole: float
    alone: float
    bytes: float
    longest: float
    jobs: Mapping[str, int]
    measured: int


def quote(plan: Plan, store: Store) -> Quote:
    """The price of what a plan has still to run."""
    assumed = assumptions(plan.study)
    pricer = _Pricer(plan.study, store, assumed)
    charges = {stage.key: pricer.charge(stage) for stage in plan.stages}
    todo = {stage.key for stage in plan.todo}
    encoders: dict[str, dict[str, Stage]] = {}
    for cell in plan.cells:
        needed = encoders.setdefault(f"{cell.row.label}; {cell.condition.label}", {})
        needed.update({stage.key: stage for stage in in_order([cell.stage])})
    rows = tuple((label, _seconds(charges, needed), _seconds(charges, set(needed) & todo))
                 for label, needed in encoders.items())
    return Quote(
        str(assumed["gpu"]), float(assumed["teraflops"]), rows, _seconds(charges, todo),
        _seconds(charges, charges), sum(row[1] for row in rows),
        sum(charges[key].bytes for key in todo),
        _longest(plan.todo, charges), Counter(stage.kind for stage in plan.todo),
        sum(charges[key].measured for key in todo))


def assumptions(study: Study) -> dict[str, Any]:
    """`pricing.gpu` and `pricing.teraflops`, checked."""
    problems: list[str] = []
    found = schema.checked(schema.Pricing, study.config["pricing"], "pricing", problems)
    if problems:
        raise Problems(problems)
    return found


def _seconds(charges: Mapping[str, Charge], keys: Iterable[str]) -> float:
    return sum(charges[key].seconds for key in keys)


def _longest(stages: Iterable[Stage], charges: Mapping[str, Charge]) -> float:
    finish: dict[str, float] = {}
    for stage in stages:
        start = max((finish.get(p.key, 0.0) for p in stage.inputs.values()), default=0.0)
        finish[stage.key] = start + charges[stage.key].seconds
    return max(finish.values(), default=0.0)


class _Pricer:
    """Charges stages one by one; every stage of a plan descends from encoders that it knows."""

    def __init__(self, study: Study, store: Store, assumed: Mapping[str, Any]) -> None:
        self.methods, self.rates = study.methods, Rates(store)
        self.rate = float(assumed["teraflops"]) * 1e12

    def charge(self, stage: Stage) -> Charge:
        """What one stage costs, measured where its network has been."""
        encoder = stage if stage.kind == "pretrain" else _encoder(stage)
        if encoder is not None and self.rates.seconds(encoder) is not None:
            spent, size = self.rates.seconds(stage), self.rates.bytes(stage.kind)
            if spent is not None and size is not None:
                return Charge(spent, size, True)
        flops, size = getattr(self, f"_{stage.kind}")(stage, encoder)
        return Charge(flops / self.rate, size + OTHER_BYTES, False)

    def _pretrain(self, stage: Stage, encoder: Stage) -> tuple[float, float]:
        network, params = _network(stage), stage.params
        size = 4.0 * STATES * network.parameters
        if "training" not in params:
            return 0.0, size
        images = float(params["data"]["images"]) * float(params["training"]["epochs"])
        if "subset" in params:
            images /= float(stage.inputs["groups"].params["k"])
        views = self._views(params)
        # an image goes through the base and through the expert of its group
        teachers = min(2, sum(role.startswith("teacher") for role in stage.inputs))
        seen = 0.0 if params.get("teacher_view") == "centre" else teachers * views
        return 2.0 * network.multiply_adds * images * (TRAINED * views + seen), size

    def _cluster(self, stage: Stage, encoder: Stage | None) -> tuple[float, float]:
        images = float(stage.params["data"]["images"])
        forward = 2.0 * _network(encoder).multiply_adds * images if encoder else 0.0
        return forward, 8.0 * images

    def _features(self, stage: Stage, encoder: Stage) -> tuple[float, float]:
        network, images = _network(encoder), float(sum(extent(stage.params["data"])))
        return 2.0 * network.multiply_adds * images, 4.0 * network.width * images

    def _evaluate(self, stage: Stage, encoder: Stage) -> tuple[float, float]:
        options, network = stage.params["options"], _network(encoder)
        name = str(stage.params["evaluation"])
        if evaluation(name).takes == "encoder":
            train, *rest = extent(stage.params["data"])
            passes = float(options.get("steps") or 0) * float(options.get("batch_size") or 0) or (
                float(options.get("epochs") or 0) * train * float(options.get("share") or 1))
            # a frozen network is passed once for all settings, a tuned one is trained with each
            work = passes if name.startswith("linear") else TRAINED * passes * _settings(options)
            share = next((p for kind, p in PIXELS.items() if name.startswith(kind)), 1.0)
            return 2.0 * network.multiply_adds * share * (work + sum(rest)), 0.0
        data = stage.inputs["features"].params["data"]
        train, _, test = extent(data)
        width = 2.0 * network.width * train
        if name.startswith("knn"):
            return width * test, 0.0
        return TRAINED * width * float(data["classes"]) * HEAD_PASSES, 0.0

    def _views(self, params: Mapping[str, Any]) -> float:
        """Views of an image in a step, in full views."""
        spec = self.methods[params["method"]]
        more = sum(share * float(params["options"].get(name) or 0)
                   for name, share in MORE_VIEWS.items())
        return len(spec.views or ()) + more


def _settings(options: Mapping[str, Any]) -> int:
    """Settings that an evaluation chooses from, each trained."""
    return max(1, len(options.get("lrs") or ())) * max(1, len(options.get("weight_decays") or ()))


def extent(data: Mapping[str, Any]) -> tuple[int, int, int]:
    """Images of train, validation and test: published ones where they are, else by the share that
    sources hold out (a tenth of the training images) and as many tests."""
    train = int(data["images"])
    if data["source"] in counts() and data.get("size") is None:
        known = counts()[data["source"]]
        return int(known["train"]), int(known["validation"]), int(known["test"])
    return train, train // 9, train // 9


def _encoder(stage: Stage) -> Stage | None:
    """The pretraining that a stage takes its network from; None where it looks at no network."""
    if "features" in stage.inputs:
        return _encoder(stage.inputs["features"])
    return stage.inputs.get("encoder") or stage.inputs.get("base")


def _network(stage: Stage | None) -> Cost:
    assert stage is not None
    return cost(stage.params["backbone"], int(stage.params["image_size"]))
