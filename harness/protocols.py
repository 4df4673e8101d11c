"""What an encoder is asked: evaluation ids `NAME[@TARGET]` resolved into protocols. No torch.

NAME is an evaluation or an entry of `protocols` (an evaluation with options of its own); TARGET is
an entry of `targets` or a source, and without one the study's own labelled images are meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import SOURCES, lists, open_source, semi
from datasets.dense import READERS
from methods.options import resolve

from . import schema
from .config import merged
from .errors import unknown
from .evaluation import Evaluation, evaluations
from .evaluation.measures import GROUPS, MAP11, known

LAYERS = ("pooled", "hidden", "output")
FIELDS = ("evaluation", "options", "layer", "label")
TARGET_FIELDS = ("source", "path", "image_size", "size", "options", "controls", "label")


@dataclass(frozen=True)
class Protocol:
    """One evaluation of a study: what is measured, how, on which layer and on which images.

    data: the specification of the labelled images; metric: the data set's own; facts: what the key
    has to cover beside the options (the content of a list of images); caution: what runs, or is
    priced, but may not be what is meant.
    """

    id: str
    evaluation: Evaluation
    options: Mapping[str, Any]
    layer: str
    data: Mapping[str, Any]
    target: str = ""
    label: str = ""
    metric: str = "top1"
    facts: Mapping[str, Any] = field(default_factory=dict)
    caution: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that its records will have, top5 only where there are classes enough."""
        return self.evaluation.may_return(self.metric)


def protocols(config: Mapping[str, Any], labelled: Mapping[str, Any],
              problems: list[str]) -> dict[str, Protocol]:
    """Every id of `grid.evaluations` with what it means; `labelled` is the study's own data."""
    found = {}
    for name in schema.names(config["grid"]["evaluations"], "grid.evaluations", problems):
        asked = protocol(config, name, labelled, problems)
        if asked is not None:
            found[name] = asked
    return found


def protocol(config: Mapping[str, Any], name: str, labelled: Mapping[str, Any],
             problems: list[str]) -> Protocol | None:
    """What one id means; None, with the problems noted, where it means nothing."""
    base, _, target = name.partition("@")
    variant = _variant(config, base, problems)
    data = labelled if "@" not in name else _target(config, target, labelled, problems)
    if variant is None or data is None:
        return None
    known_one = evaluations()[variant["evaluation"]]
    data = dict(data)
    label = str(data.pop("label", target))
    metric = getattr(SOURCES.get(str(data.get("source"))), "metric", "top1")
    if metric == MAP11 and known_one.classifies and not known_one.several:
        able = ", ".join(n for n, e in evaluations().items() if e.several)
        problems.append(f"evaluation '{name}': images of '{data['source']}' have several classes, "
                        f"which {known_one.name} cannot score: use {able}")
    _check_dense(name, known_one, str(data.get("source")), problems)
    options = _published(variant["options"], data)
    named = ", published list" if options != variant["options"] else ""
    facts, caution = _list(config, options, data, name, bool(named), problems)
    return Protocol(name, known_one, options, variant["layer"], data, target,
                    variant["label"] + (f" on {label}" if label else "") + named,
                    metric, facts, caution)


def _check_dense(name: str, asked: Evaluation, source: str, problems: list[str]) -> None:
    """A dense evaluation is of one source; the others are of images with one annotation each."""
    wanted = getattr(asked.config, "source", "")
    if wanted and source != wanted:
        problems.append(f"evaluation '{name}': {asked.name} is of the data set '{wanted}', not of "
                        f"'{source}': write {asked.name}@{wanted}, its files at "
                        f"targets.{wanted}.path=FOLDER")
    elif not wanted and source in READERS:
        able = ", ".join(n for n, e in evaluations().items()
                         if getattr(e.config, "source", "") == source)
        problems.append(f"evaluation '{name}': images of '{source}' have no classes of their own: "
                        f"use {able}")


def check_headline(config: Mapping[str, Any], found: Mapping[str, Protocol],
                   problems: list[str]) -> None:
    """`grid.headline`: an evaluation that is asked, and a metric that it returns."""
    headline = schema.mapping(config["grid"].get("headline"), "grid.headline", problems)
    name, metric = str(headline.get("evaluation")), str(headline.get("metric"))
    everything = {m for asked in found.values() for m in asked.metrics} | set(GROUPS)
    if found and name in found and metric not in {*found[name].metrics, *GROUPS}:
        problems.append(str(unknown("metric", metric, found[name].metrics,
                                    f"grid.headline.metric of '{name}'")))
    elif found and metric not in everything and metric not in known():
        problems.append(str(unknown("metric", metric, everything, "grid.headline.metric")))


def _variant(config: Mapping[str, Any], base: str, problems: list[str]) -> dict[str, Any] | None:
    """The evaluation that a NAME stands for, its options and its layer."""
    named = schema.mapping(config.get("protocols"), "protocols", problems)
    given = schema.mapping(named.get(base), f"protocols.{base}", problems)
    evaluation = str(given.get("evaluation", base))
    if evaluation not in evaluations():
        where = f"protocols.{base}.evaluation" if base in named else "grid.evaluations"
        names = set(evaluations()) | (set() if base in named else set(named))
        problems.append(str(unknown("evaluation", evaluation, names, where)))
        return None
    for key in set(given) - set(FIELDS):
        problems.append(str(unknown("option", key, FIELDS, f"protocols.{base}")))
    layer = str(given.get("layer", "pooled"))
    if layer not in LAYERS:
        problems.append(str(unknown("layer", layer, LAYERS, f"protocols.{base}.layer")))
    return {"evaluation": evaluation, "layer": layer,
            "options": _options(config, base, evaluation, given.get("options"), problems),
            "label": str(given.get("label", base.replace("_", " ") if base in named else ""))
            or evaluation}


def _options(config: Mapping[str, Any], base: str, evaluation: str, given: Any,
             problems: list[str]) -> dict[str, Any]:
    """Defaults < scale.evaluations.EVALUATION < the protocol < scale.evaluations.PROTOCOL."""
    scale = schema.mapping(config["scale"].get("evaluations"), "scale.evaluations", problems)
    layers = {f"scale.evaluations.{evaluation}": scale.get(evaluation),
              f"protocols.{base}.options": given}
    if base != evaluation:
        layers[f"scale.evaluations.{base}"] = scale.get(base)
    schema_ = evaluations()[evaluation].options
    values: dict[str, Any] = {}
    for where, layer in layers.items():
        checked = schema.mapping(layer, where, problems)
        problems.extend(resolve(schema_, checked, where)[1])
        values = merged(values, checked)
    return resolve(schema_, values, f"evaluation '{base}'")[0]


def _published(options: Mapping[str, Any], data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with the published list of their share as `file`, where there is one."""
    if options.get("draw") != "published" or options["file"] or options["shots"]:
        return options
    file = semi.published(data, options["share"])
    return {**options, "file": file} if file else options


def _list(config: Mapping[str, Any], options: Mapping[str, Any], data: Mapping[str, Any],
          name: str, ours: bool, problems: list[str]) -> tuple[dict[str, str], str]:
    """The content of the list of images that an option `file` names, and what to say of it.

    ours: whether it was named here, and not by the user. The price of a published table needs no
    list; what is run does.
    """
    if not options.get("file"):
        return {}, ""
    remedy = f"; or draw by seed: scale.evaluations.{name.partition('@')[0]}.draw=seed" \
        if ours else ""
    try:
        source = open_source({key: data.get(key)
                              for key in ("source", "path", "image_size", "options")})
        path = lists.find(str(options["file"]), semi.place(source))
        return {"list": lists.read(path, str(options.get("key", ""))).digest}, ""
    except FileNotFoundError as error:
        if config.get("table") and config["dry_run"] is True:
            return {"list": f"absent: {options['file']}"}, (
                f"list absent: {options['file']} of '{data['source']}' is needed to run '{name}'; "
                "keys are provisional")
        problems.append(f"evaluation '{name}': {error}{remedy}")
    except ValueError as error:
        problems.append(f"evaluation '{name}': {error}{remedy}")
    return {}, ""


def _target(config: Mapping[str, Any], name: str, labelled: Mapping[str, Any],
            problems: list[str]) -> dict[str, Any] | None:
    """The data specification of a target, its label under "label"."""
    targets = schema.mapping(config.get("targets"), "targets", problems)
    if name not in targets and name not in SOURCES and name not in READERS:
        problems.append(str(unknown("target", name, {*targets, *SOURCES, *READERS},
                                    "grid.evaluations")))
        return None
    given = schema.mapping(targets.get(name), f"targets.{name}", problems)
    for key in set(given) - set(TARGET_FIELDS):
        problems.append(str(unknown("option", key, TARGET_FIELDS, f"targets.{name}")))
        given.pop(key)
    size = given.get("size")
    if isinstance(size, Mapping):
        given["size"] = size.get(config["scale"]["name"])
    return merged({"source": name, "path": None, "image_size": labelled["image_size"],
                   "options": {}, "size": None, "controls": {}, "label": name}, given)
