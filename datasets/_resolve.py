"""From a dataset specification as written to one that is complete, checked and fingerprinted."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets import lists
from datasets.controls import CONTROLS, Known, apply, bound
from datasets.messages import DatasetError, TooFewImages, unknown
from datasets.sources import SOURCES
from datasets.sources.base import digest, file_digest
from datasets.sources.shards import Streamed
from datasets.types import SPLITS, Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datasets.sources import Source

FIELDS = ("source", "path", "image_size", "size", "seed", "controls", "options")
# what the fingerprint covers beside the content; the other fields follow from it
RESOLVED = ("source", "image_size", "size", "seed", "controls", "options")
NEW_PIXELS = ("correlation", "mixture", "spurious")  # controls whose images are in no file
REVISION = 1  # of what a resolved specification means


def resolve(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Validate and complete {source, path, image_size, size, seed, controls, options}.

    Returns a JSON-able dict of these without the path, with every default filled in, and with
    `images` and `class_counts` (training images), `unlabelled` if some of them have no label,
    `classes` and `fingerprint` (content of the source's three splits and of lists, controls with
    their revisions, size, seed). Decodes no image. Raises DatasetError, a
    ValueError whose `problems` holds one line per mistake, all of them at once.
    """
    problems = [unknown("dataset field", key, FIELDS) for key in spec if key not in FIELDS]
    source = _source(spec, problems)
    size = _whole(spec, "size", None, 1, problems)
    seed = _whole(spec, "seed", 0, 0, problems)
    controls = _controls(spec.get("controls") or {}, problems)
    if size is None and (names := bound(controls)):
        problems.append(f"control '{', '.join(names)}' holds the total fixed: set "
                        "data.size=NUMBER of images")
    if source is not None and (problem := source.problem()):
        problems.append(problem)
    if source is not None and "mixture" in controls and not problems:
        _meet(controls["mixture"], source, problems)
    if problems or source is None:
        raise DatasetError(problems)
    # checked like any other, and then the same images as without them: one fingerprint, one key
    controls = {name: values for name, values in controls.items()
                if not CONTROLS[name].idle(values)}
    if getattr(source, "whole", False) and (made := [n for n in controls if n in NEW_PIXELS]):
        raise DatasetError([f"control '{', '.join(made)}' makes images from squares, and "
                            "data.options.whole=true has none: leave out one of them"])
    counts, images = _feasible(source, controls, size, seed or 0)
    resolved: dict[str, Any] = {
        "source": source.name, "image_size": source.side(), "size": size, "seed": seed,
        "controls": controls, "options": source.lasting(), "images": images,
        "class_counts": counts, "classes": len(source.class_names)}
    lacking = images - (sum(counts) if source.labelled else 0)
    if lacking and not source.multilabel:
        resolved["unlabelled"] = lacking
    return {**resolved, "fingerprint": fingerprint(source, resolved)}


def open_source(spec: Mapping[str, Any], path: str | Path | None = None) -> Source:
    """The source that a specification names, with its options. Raises DatasetError."""
    problems: list[str] = []
    source = _source({**spec, "path": path} if path is not None else spec, problems)
    if source is None or problems:
        raise DatasetError(problems)
    return source


def fingerprint(source: Source, resolved: Mapping[str, Any],
                content: Sequence[str] | None = None) -> str:
    """SHA-256 over content, controls with revisions, size and seed.

    content: the fingerprints of the source's splits where they are known (None: asks the source).
    """
    revisions = {name: CONTROLS[name].revision for name in resolved["controls"]}
    rest = {key: resolved[key] for key in RESOLVED}
    content = [*content] if content else [source.fingerprint(split) for split in SPLITS]
    if listed := resolved["controls"].get("index_list"):
        content.append(lists.read(lists.find(listed["file"], source.folder()),
                                  listed["key"]).digest)
    content += [file_digest(lists.find(values["file"], source.folder()))
                for name, values in sorted(resolved["controls"].items())
                if name != "index_list" and values.get("file")]
    return digest(REVISION, source.revision, json.dumps([rest, revisions, content], sort_keys=True))


def _source(spec: Mapping[str, Any], problems: list[str]) -> Source | None:
    """The source with its options checked, or None with the problems noted."""
    name = spec.get("source")
    if name not in SOURCES:
        problems.append(unknown("source", name, SOURCES) + " (python -m harness.list datasets)")
        return None
    cls = SOURCES[str(name)]
    given = dict(spec.get("options") or {})
    known = cls.options()
    before = len(problems)
    for key, value in given.items():
        if key not in known:
            problems.append(unknown(f"option of source '{name}'", key, known))
        else:
            given[key] = _typed(f"options.{key}", str(known[key].type), value, problems)
    side = _whole(spec, "image_size", None, 4, problems)
    if len(problems) > before:
        return None
    path = spec.get("path")
    return cls(path=Path(str(path)).expanduser() if path else None, image_size=side, **given)


def _controls(given: Mapping[str, Any], problems: list[str]) -> dict[str, dict[str, Any]]:
    """Every control with its parameters checked and completed, by name."""
    checked: dict[str, dict[str, Any]] = {}
    for name in sorted(given):
        if name not in CONTROLS:
            problems.append(unknown("control", name, CONTROLS))
            continue
        values, parameters = given[name] or {}, CONTROLS[name].parameters
        problems += [unknown(f"parameter of control '{name}'", key, parameters)
                     for key in values if key not in parameters]
        checked[name] = {}
        for key, parameter in parameters.items():
            if key not in values and parameter.default is inspect.Parameter.empty:
                problems.append(f"control '{name}' needs {key}: set data.controls.{name}.{key}")
            else:
                checked[name][key] = _typed(f"controls.{name}.{key}", str(parameter.annotation),
                                            values.get(key, parameter.default), problems)
    return checked


def _typed(where: str, wanted: str, value: Any, problems: list[str]) -> Any:
    """The value as the annotated type; int passes for float, bool never for a number."""
    kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "str": (str,),
                                          "bool": (bool,), "Mapping": (Mapping,)}
    names = [part.strip() for part in wanted.split("|")]
    if value is None and "None" in names:
        return None
    for name in names:
        fits = isinstance(value, kinds.get(name, ())) and (
            name == "bool" or not isinstance(value, bool))
        if fits:
            return float(value) if name == "float" else value
    problems.append(f"data.{where} must be {wanted.replace(' | None', '')}, not {value!r}")
    return value


def _whole(spec: Mapping[str, Any], key: str, default: int | None, least: int,
           problems: list[str]) -> int | None:
    """A whole number of the specification, or its default."""
    value = spec.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        problems.append(f"data.{key} must be a whole number of at least {least}, not {value!r}")
        return default
    return value


def foreign(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """The other source of a mixture as a dataset of its own, resolved if `spec` is; else None."""
    given = (spec.get("controls") or {}).get("mixture")
    if not given:
        return None
    other = {"source": given.get("source"), "image_size": spec.get("image_size"), "size": None,
             "seed": 0, "controls": {}, "options": given.get("options") or {}}
    kept = {"fingerprint": given.get("content"), "path": given.get("path")}
    return {**other, **{key: value for key, value in kept.items() if value}}


def _meet(given: dict[str, Any], source: Source, problems: list[str]) -> None:
    """Replace the place of a mixture's other source by what it holds; its options are completed."""
    other = foreign({"image_size": source.side(), "controls": {"mixture": given}})
    assert other is not None, "given"
    if getattr(SOURCES.get(str(given["source"])), "huge", False):
        problems.append(f"controls.mixture.source '{given['source']}' is only read in order: name "
                        "a source that fits in memory")
        return
    if (given.get("options") or {}).get("whole"):
        problems.append("controls.mixture.options.whole: a mixture is of squares, leave it out")
        return
    try:
        found = resolve(other)
    except DatasetError as error:
        problems += [f"controls.mixture: {line}" for line in error.problems]
        return
    given.pop("path")
    given |= {"options": found["options"], "foreign": found["images"],
              "content": found["fingerprint"]}


def _feasible(source: Source, controls: Mapping[str, Mapping[str, Any]], size: int | None,
              seed: int) -> tuple[list[int], int]:
    """Training images of each class and in all; DatasetError if there are too few.

    The controls themselves run on labels made from the counts, so planning cannot disagree.
    """
    counts = source.counts("train")
    if isinstance(source, Streamed) and (size is not None or controls):
        return _head(source, controls, size, int(counts.sum()))
    if source.multilabel:
        return _several(source, controls, size, counts)
    if size is None and not controls:
        return [int(count) for count in counts], int(counts.sum())
    names = None
    if {"index_list", "tracks"} & set(controls):  # need to know which images, not only how many
        pool = source.pool("train")
        names = source.names("train") if "index_list" in controls else None
    else:
        labels = np.repeat(np.arange(len(counts)), counts)
        zeros = np.zeros_like(labels)
        pool = Pool(labels, zeros, zeros, np.arange(len(labels)))
    try:
        chosen = apply(pool, controls, size, seed, known(source, names))
        own = chosen.index[chosen.index < len(pool)]
        return np.bincount(pool.labels[own], minlength=len(counts)).tolist(), len(chosen)
    except TooFewImages as error:
        line = error.line(f"class '{source.class_names[error.label]}'")
        wanted = f"size {size}" if size is not None else "the training set"
        raise DatasetError([f"source '{source.name}': {wanted} {line}"]) from None
    except (ValueError, FileNotFoundError) as error:
        raise DatasetError([f"source '{source.name}': {error}"]) from None


def _several(source: Source, controls: Mapping[str, Any], size: int | None,
             counts: NDArray[np.int64]) -> tuple[list[int], int]:
    """Images of each class, and in all, where an image may be of several."""
    if controls or size is not None:
        raise DatasetError([f"source '{source.name}' has several classes an image, so size and "
                            "controls cannot choose by class: leave them out"])
    return counts.tolist(), len(source.pool("train"))


def _head(source: Streamed, controls: Mapping[str, Any], size: int | None,
          images: int) -> tuple[list[int], int]:
    """Images of each class and in all among the first `size` of a source that is not listed."""
    if controls:
        raise DatasetError([f"source '{source.name}' is streamed, so control "
                            f"'{', '.join(sorted(controls))}' cannot choose from it: apply it when "
                            "the shards are written (harness.data dataset=... pack=shards)"])
    assert size is not None
    if size > images:
        raise DatasetError([f"source '{source.name}': size {size} is more than the {images} images "
                            f"there are: reduce size by {size - images}"])
    return source.first("train", size).tolist(), size


def known(source: Source, names: Sequence[str] | None,
          class_names: tuple[str, ...] | None = None) -> Known:
    """What controls may know of a source; names: class/file of each image of its pool."""
    return Known(names, source.folder(), class_names or source.class_names, source.coarse_names())


def left_out(spec: Mapping[str, Any]) -> list[str]:
    """A line for what a setting (partial, on_corrupt=skip) leaves out of a source."""
    return list(getattr(open_source(spec), "left_out", list)())


def describe(name: str) -> dict[str, Any]:
    """What there is to know about a source: title, size, licence, citation, layout, options."""
    if name not in SOURCES:
        raise DatasetError([unknown("source", name, SOURCES)])
    cls = SOURCES[name]
    options = {key: {"type": str(f.type), "default": f.default if f.default
                     is not dataclasses.MISSING else None} for key, f in cls.options().items()}
    metrics = {"top1": "top-1", "mean_per_class": "mean per class", "map11": "11-point mAP"}
    kinds = [word for word, holds in (("several classes an image", cls.multilabel),
                                      ("unlabelled", not cls.labelled),
                                      ("centre squares of photographs at the image size"
                                       " (options.whole=true: whole)", cls.squares),
                                      ("streamed, never listed in memory", cls.huge)) if holds]
    return {"name": name, "title": cls.title, "size": cls.size, "kind": ", ".join(kinds),
            "splits": cls.splits, "metric": metrics[cls.metric], "licence": cls.licence,
            "citation": cls.citation, "layout": cls.layout, "fetch": cls.fetch_hint,
            "fingerprint": f"of {cls.identity}", "options": options}
