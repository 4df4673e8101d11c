"""Does one stage of each kind: the functions that a worker calls. Imports torch.

Each takes the stage as JSON values, the folders of its inputs by role, and an empty folder for its
artifact; it returns the metrics (JSON values).
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import datasets
from datasets import multilabel, recipes, views
from datasets.photographs import Photographs
from datasets.rows import take
from datasets.types import SPLITS, Images, Split
from harness import foreign
from harness.evaluation import clusters, evaluation, features
from harness.evaluation.measures import MEAN_PER_CLASS, measure
from harness.evaluation.network import Network
from harness.evaluation.photographs import Whole
from harness.evaluation.splits import Features, as_tensor
from harness.evaluation.subject import Subject
from harness.schema import Training
from harness.store import sha256
from harness.training import division
from harness.training.backbones import build_backbone
from harness.training.distributed import rank, world
from harness.training.feed import feed_of, labels_of
from harness.training.loop import Interrupted, Job, Loop, Surroundings, View
from harness.training.schedules import num_steps
from harness.training.seeds import derive
from harness.training.teachers import Teachers
from methods import options as method_options
from methods.base import Info, Method
from methods.registry import load, named

__all__ = ["RUN", "Context", "Interrupted", "restore"]

Metrics = dict[str, Any]
# what a reference that is not trained sees
NO_DATA = Images(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64), ())


@dataclass(frozen=True)
class Context:
    """Where and under whose eyes a stage runs; nothing of it is in the stage's key.

    data_paths: source -> its files on this machine; checkpoint_dir survives a kill and is the
    caller's to remove; stop: asks for a checkpoint and `Interrupted`; packs: a folder where sources
    may lie decoded (`datasets.packing`).
    """

    device: str
    data_paths: Mapping[str, str]
    plugins: tuple[Path, ...]
    progress: Callable[[dict[str, Any]], None]
    checkpoint_seconds: float
    checkpoint_dir: Path
    threads: int
    stop: Callable[[], bool]
    packs: Path | None = None

    def path_of(self, spec: Mapping[str, Any]) -> str | None:
        """Where the files of a data set lie on this machine: its own place, or its source's."""
        return self.data_paths.get(spec.get("fingerprint", ""),
                                   self.data_paths.get(spec["source"]))


def pretrain(stage: dict[str, Any], inputs: dict[str, Path], work: Path,
             context: Context) -> Metrics:
    """Train a method; writes encoder.safetensors, method.safetensors, info.json, losses.npy.

    In a process group every rank calls it with the same arguments, and the first one writes.
    Raises ValueError for images that cannot be trained on, FloatingPointError for a loss that is
    not finite and Interrupted after a checkpoint.
    """
    _prepare(context)
    params = stage["params"]
    images = _images(params["data"], "train", context) if "data" in params else NO_DATA
    images, num_groups, groups = _divide(images, params, inputs)
    job = _job(stage, images, inputs, num_groups, groups, context)
    metrics: Metrics = {"final_loss": None, "steps": 0, "images_seen": 0, "seconds": 0.0,
                        "images_per_second": None}
    losses = np.zeros(0, np.float32)
    if params["method"] == "checkpoint":
        metrics |= _load_weights(job.method, params["options"]["sha256"], context)
    if job.method.trainable:
        losses, metrics = _train(job, context)
    if not rank():
        np.save(work / "losses.npy", losses)
        save_file(_flat(job.method.encoder), work / "encoder.safetensors")
        save_file(_flat(job.method), work / "method.safetensors")
        (work / "info.json").write_text(json.dumps(vars(job.method.info), sort_keys=True))
    return {**metrics, "peak_memory_mb": _peak_memory_mb(context.device)}


def cluster(stage: dict[str, Any], inputs: dict[str, Path], work: Path,
            context: Context) -> Metrics:
    """Divide the pretraining images; writes assignment.npy int64 (n,), centroids.npy (k, d).

    "features" clusters the base's embeddings of plain views by spherical k-means; "random" deals
    the images into equal groups (centroids.npy is then (k, 0)).
    """
    _prepare(context)
    params = stage["params"]
    images = _images(params["data"], "train", context)
    if params.get("by", "features") == "random":
        found = clusters.deal(len(images), params["k"], derive(params["seed"], "deal"))
    else:
        base = restore(inputs["base"], context).eval()
        embed = partial(features.embed, partial(base.embed, layer=params["layer"]),
                        size=params["data"]["image_size"], device=context.device,
                        precision=params["precision"])
        found = division.divide(embed, images.pixels, params["k"], params["seed"])
    np.save(work / "assignment.npy", found.assignment)
    np.save(work / "centroids.npy", found.centroids)
    sizes = np.bincount(found.assignment, minlength=params["k"])
    return {"sizes": sizes.tolist(), "objective": found.objective,
            **division.fit(images.labels, found)}


def extract(stage: dict[str, Any], inputs: dict[str, Path], work: Path,
            context: Context) -> Metrics:
    """Embed the labelled images; writes {train,validation,test}.npy and their *_labels.npy.

    With `layers` it writes {split}_{layer}.npy of each layer that the method has, in one forward.
    """
    _prepare(context)
    params = stage["params"]
    method = restore(inputs["encoder"], context).eval()
    layers = features.available(method, params.get("layers", ("pooled",)))
    counts: Metrics = {}
    for split in SPLITS:
        images = _images(params["data"], split, context)
        places = {layer: work / features.file_of(split, layer) for layer in layers}
        found = features.embed_layers(method, places, images.pixels, params["data"]["image_size"],
                                      context.device, params["precision"])
        np.save(work / f"{split}_labels.npy", _labels(images, params["data"]))
        counts[f"n_{split}"] = len(images)
    widths = {layer: array.shape[1] for layer, array in found.items()}
    return {**counts, "dim": widths["pooled"] if "pooled" in widths else widths,
            "num_classes": len(images.class_names)}


def evaluate(stage: dict[str, Any], inputs: dict[str, Path], work: Path,
             context: Context) -> Metrics:
    """Score features, or an encoder, by the evaluation that the stage names.

    Raises ValueError where it returns other metrics than it declares.
    """
    _prepare(context)
    params = stage["params"]
    chosen, metric = evaluation(params["evaluation"]), params.get("metric", "top1")
    if chosen.takes == "encoder":
        data: Any = _subject(stage, inputs["encoder"], work, context)
    else:
        data = Features.load(inputs["features"], context.device, params.get("layer", "pooled"),
                             metric)
    found = chosen.run(data, chosen.configure(params["options"]), params.get("class_counts"))
    if metric == MEAN_PER_CLASS and chosen.classifies:  # the data set's name for the same mean
        found[metric] = found["balanced"]
    for name in ("n_test", *chosen.returns(metric)):
        if name not in found:
            raise ValueError(f"evaluation '{chosen.name}' returned no '{name}': it returned "
                             f"{', '.join(found)}")
        if name != "n_test" and measure(name).refuses(found[name]):
            raise ValueError(f"evaluation '{chosen.name}' returned {name} = {found[name]}, not in "
                             f"[{measure(name).low:g}, {measure(name).high:g}]")
    return found


def _subject(stage: dict[str, Any], encoder: Path, work: Path, context: Context) -> Subject:
    """The encoder in a folder as an evaluation that takes one is given it."""
    params = stage["params"]
    metric = params.get("metric", "top1")

    def images(split: Split) -> tuple[Tensor, Tensor]:
        found = _images(params["data"], split, context)
        pixels: Any = found.pixels
        shown = Whole(pixels) if isinstance(pixels, Photographs) else as_tensor(pixels)
        return cast("Tensor", shown), torch.from_numpy(_labels(found, params["data"]))

    return Subject(
        network=lambda layer: Network(restore(encoder, context).eval(), layer),
        splits=lambda: Features.of({split: images(split) for split in SPLITS}, metric),
        data=params["data"], metric=metric, layer=params.get("layer", "pooled"),
        seed=params["seed"], precision=params["precision"], key=stage["key"], work=work,
        context=context)


RUN: dict[str, Callable[[dict[str, Any], dict[str, Path], Path, Context], Metrics]] = {
    "pretrain": pretrain, "cluster": cluster, "features": extract, "evaluate": evaluate,
}


def restore(folder: Path, context: Context) -> Method:
    """The method that a pretrain artifact holds, on the device, with its whole state."""
    params = json.loads((folder / "stage.json").read_text())["params"]
    info = json.loads((folder / "info.json").read_text())
    info["teacher_dims"] = tuple(info["teacher_dims"])
    method = _method(params, Info(**info), context)
    method.load_state_dict(load_file(folder / "method.safetensors", context.device))
    return method


def _load_weights(method: Method, digest: str, context: Context) -> Metrics:
    """Give a method's backbone the weights of the file with that content."""
    path = Path(context.data_paths.get(digest, ""))
    if not path.is_file() or sha256(path) != digest:
        raise ValueError(f"the weights' file {path} is gone or has changed since it was planned: "
                         "plan again")
    return {"weights": foreign.load(method.backbone, path)}


def _train(job: Job, context: Context) -> tuple[NDArray[np.float32], Metrics]:
    """Run the loop; the loss of each step, and the metrics. final_loss: mean of the last epoch."""
    loop = Loop(job, Surroundings(context.checkpoint_dir, context.checkpoint_seconds,
                                  context.progress, context.stop))
    loop.run()
    losses = loop.losses.float().cpu().numpy()
    images_seen = loop.num_steps * job.batch_size
    last_epoch = losses[-max(1, len(job.feed) // job.batch_size):]
    return losses, {
        "final_loss": float(last_epoch.mean()), "steps": loop.num_steps,
        "images_seen": images_seen, "seconds": loop.seconds,
        "images_per_second": images_seen / loop.seconds}


# -- building a job -------------------------------------------------------------------------------


def _job(stage: dict[str, Any], images: Images, inputs: dict[str, Path], num_groups: int,
         groups: Tensor | None, context: Context) -> Job:
    params = stage["params"]
    training = method_options.build(Training, params.get("training", {}), "training")
    folders = [inputs[f"teacher{i}"] for i in range(len(inputs)) if f"teacher{i}" in inputs]
    teachers = Teachers([restore(folder, context) for folder in folders], num_groups,
                        training.precision, context.device) if folders else None
    batch_size = min(training.batch_size, len(images))
    if "data" in params and len(images) < 2:
        raise ValueError(f"training needs 2 images, the data set has {len(images)}: raise its size")
    if teachers and params.get("teacher_view") == "centre":
        teachers.remember(images.pixels, params["image_size"], groups)
    # teachers are built first: building draws from the global generator
    torch.manual_seed(derive(params["seed"], "init"))
    method = _method(params, Info(
        num_images=len(images), num_classes=len(images.class_names), batch_size=batch_size,
        total_steps=num_steps(training.epochs, len(images), batch_size) if len(images) else 0,
        feature_dim=0, num_groups=num_groups,
        teacher_dims=teachers.dims(params["image_size"]) if teachers else ()), context)
    return Job(
        method=method, feed=feed_of(images.pixels, context.device),
        labels=labels_of(images.labels, context.device),
        views=_views(method, params) if method.trainable else (), training=training,
        seed=params["seed"], device=context.device, identity=stage["key"],
        groups=groups, teachers=teachers, at_once=params.get("images_at_once"))


def _method(params: dict[str, Any], info: Info, context: Context) -> Method:
    """The method of a pretrain stage; `info.feature_dim` is filled in from its backbone."""
    options = dict(params["backbone"])
    backbone = build_backbone(options.pop("name"), **options)
    cls = load(named(params["method"], context.plugins))
    config = method_options.build(cls.Config, params["options"], f"method '{params['method']}'")
    feature_dim = backbone.feature_dim
    assert isinstance(feature_dim, int)
    method = cls(backbone, replace(info, feature_dim=feature_dim), config)
    return method.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _views(method: Method, params: dict[str, Any]) -> list[View]:
    size = params["image_size"]

    def one(view: recipes.View) -> View:
        part = rank(), world()
        return lambda images, generator: views.apply(images, view, generator, size, part=part)

    return [one(recipes.override(recipes.view_of(entry), params.get("views") or {}))
            for entry in method.views]


def _divide(images: Images, params: dict[str, Any],
            inputs: dict[str, Path]) -> tuple[Images, int, Tensor | None]:
    """The images of the stage, the number of groups and the group of each image.

    With `subset`, only the images of that group, which then are one group.
    """
    if "groups" not in inputs:
        return images, 0, None
    assignment = np.load(inputs["groups"] / "assignment.npy")
    num_groups = len(np.load(inputs["groups"] / "centroids.npy"))
    if len(assignment) != len(images):
        raise ValueError(f"the division has {len(assignment)} images, the data set "
                         f"{len(images)}: cluster the images that are trained on")
    subset = params.get("subset")
    if subset is None:
        return images, num_groups, torch.from_numpy(assignment)
    rows = np.flatnonzero(assignment == subset)
    if len(rows) < 2:
        raise ValueError(f"group {subset} of {num_groups} has {len(rows)} images, training needs "
                         "2: choose fewer groups")
    return Images(take(images.pixels, rows), images.labels[rows], images.origin[rows],
                  images.class_names), 0, None


def _images(spec: dict[str, Any], split: Split, context: Context) -> Images:
    other = datasets.foreign(spec)
    return datasets.build(spec, split, context.path_of(spec), context.packs,
                          foreign_path=context.path_of(other) if other else None)


def _labels(images: Images, spec: Mapping[str, Any]) -> NDArray[np.int64]:
    """int64 (n,); of images of several classes (n, C) of 1, -1 and 0 for not judged."""
    if not datasets.SOURCES[spec["source"]].multilabel:
        return images.labels
    return multilabel.unpack(images.labels, len(images.class_names))


def _prepare(context: Context) -> None:
    """Process-wide settings on which equal bytes from equal runs depend."""
    torch.set_num_threads(context.threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def _flat(module: nn.Module) -> dict[str, Tensor]:
    """The state as safetensors wants it: contiguous, on the CPU, nothing shared."""
    return {name: value.detach().cpu().contiguous().clone()
            for name, value in module.state_dict().items()}


def _peak_memory_mb(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
