"""The checks of `harness.check`: what every method must do, on a small network and real patches."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import datasets
from datasets import recipes, views
from methods import options as method_options
from methods.base import Info, Method
from methods.recipe import Cluster, Pretrain
from methods.registry import MethodSpec, load, load_recipe

from .schema import Training
from .training.backbones import build_backbone
from .training.feed import Resident
from .training.loop import Interrupted, Job, Loop, Surroundings
from .training.teachers import Teachers

IMAGES, BATCH, EPOCHS, SIZE = 76, 19, 6.0, 32
LR = 0.02
# Of the widest possible spread of unit vectors; a collapsed encoder is at 0, an untrained at ~0.02.
COLLAPSED = 1e-3
# Small versions of options that papers set for a million images, where a method has them.
SMALL = {"hidden_dim": 64, "output_dim": 32, "queue_size": 4 * BATCH, "memory_multiplier": 12,
         "support_size": 2, "top_k": 4, "groups": 4, "clusters": 4, "prototypes": 16,
         "num_prototypes": 16, "prune": 0.3}


@dataclass(frozen=True)
class Result:
    """One check: what it asked, whether it holds, and what was seen."""

    check: str
    passed: bool
    detail: str = ""


def results(spec: MethodSpec, specs: Mapping[str, MethodSpec],
            plugins: Sequence[Path]) -> Iterator[Result]:
    """Run every check that applies to a method; an exception of the method is a failed check."""
    # more threads gain nothing at this size, and change the bytes from machine to machine
    torch.set_num_threads(1)
    if spec.kind == "recipe":
        yield from _recipe_results(spec, specs)
        return
    try:
        trial = _Trial(spec)
    except Exception as error:  # whatever a plug-in raises is its failed check
        yield Result("loads and builds", False, f"{type(error).__name__}: {error}")
        return
    yield Result("loads and builds", True, f"views {', '.join(map(str, trial.method.views))}"
                 if spec.trainable else "a reference, not trained")
    checks: list[Callable[[_Trial], Result]] = [_schema, _encoder]
    if spec.trainable:
        checks += [_loss_and_gradients, _learns, _labels, _repeats, _resumes]
    for check in checks:
        try:
            yield check(trial)
        except Exception as error:  # as above
            name = (check.__doc__ or check.__name__).split(".")[0]
            yield Result(name, False, f"{type(error).__name__}: {' '.join(str(error).split())}")


class _Trial:
    """A method with small settings on small photographs, built anew for each check."""

    def __init__(self, spec: MethodSpec) -> None:
        self.spec = spec
        self.cls = load(spec)
        resolved = datasets.resolve({"source": "photos", "size": IMAGES, "seed": 0})
        images = datasets.build(resolved, "train")
        self.pixels = torch.from_numpy(images.pixels)
        self.labels = torch.from_numpy(images.labels)
        self.num_classes = len(images.class_names)
        self.groups = torch.arange(IMAGES) % 2 if spec_needs(spec, "teachers") else None
        self.method = self.build()

    def build(self) -> Method:
        """The method with freshly seeded weights."""
        torch.manual_seed(0)
        teachers = (32,) * 3 if self.groups is not None else ()
        backbone: Any = build_backbone("resnet_tiny", width=16, stages=2)
        info = Info(num_images=IMAGES, num_classes=self.num_classes, batch_size=BATCH,
                    total_steps=round(EPOCHS * IMAGES / BATCH), feature_dim=backbone.feature_dim,
                    num_groups=2 if teachers else 0, teacher_dims=teachers)
        small = {k: v for k, v in SMALL.items() if k in self.spec.options}
        return self.cls(backbone, info,
                        method_options.build(self.cls.Config, small, self.spec.name))

    def loop(self, folder: Path, labels: Tensor | None = None, lr: float = LR,
             stop: Callable[[], bool] = lambda: False) -> Loop:
        """A run of the harness's own loop."""
        method = self.build()
        training = Training(epochs=EPOCHS, batch_size=BATCH, optimizer="sgd", lr=lr,
                            precision="fp32")
        job = Job(method=method, feed=Resident(self.pixels),
                  labels=self.labels if labels is None else labels,
                  views=[_view(entry) for entry in method.views], training=training, seed=0,
                  device="cpu", identity="check", groups=self.groups, teachers=self._teachers())
        return Loop(job, Surroundings(folder, 1e9, lambda facts: None, stop))

    def run(self, **settings: Any) -> Loop:
        """A whole run in a folder of its own."""
        with tempfile.TemporaryDirectory() as folder:
            loop = self.loop(Path(folder), **settings)
            loop.run()
        return loop

    def _teachers(self) -> Teachers | None:
        if self.groups is None:
            return None
        return Teachers([_Teacher(i) for i in range(3)], 2, "fp32", "cpu")


class _Teacher(Method):
    """A frozen random network whose output a student can regress."""

    def __init__(self, number: int) -> None:
        torch.manual_seed(100 + number)
        backbone: Any = build_backbone("resnet_tiny", width=16, stages=2)
        super().__init__(backbone, Info(1, 1, 1, 1, backbone.feature_dim), None)

    def embed(self, x: Tensor, layer: str) -> Tensor:
        """The backbone's features, whatever the layer."""
        features: Tensor = self.backbone(x)
        return features


def spec_needs(spec: MethodSpec, what: str) -> bool:
    """Whether a method declares that it needs `what`."""
    return what in spec.needs


def _view(entry: Any) -> Callable[[Tensor, torch.Generator], Tensor]:
    recipe = recipes.view_of(entry)
    return lambda images, generator: views.apply(images, recipe, generator, SIZE)


def _schema(trial: _Trial) -> Result:
    """options read from the text equal those of the class."""
    found = method_options.options_of(trial.cls.Config)
    return Result("options read from the text equal those of the class",
                  found == trial.spec.options, f"{len(found)} options")


def _encoder(trial: _Trial) -> Result:
    """the encoder maps images to vectors, each by itself."""
    encoder = trial.build().encoder.eval()
    x = views.plain(trial.pixels[:8], SIZE)
    with torch.no_grad():
        whole, half = encoder(x), encoder(x[:4])
    if whole.ndim != 2 or len(whole) != 8:
        return Result("the encoder maps images to vectors", False, f"shape {tuple(whole.shape)}")
    alone = bool(torch.allclose(whole[:4], half, atol=1e-4))
    return Result("the encoder maps images to vectors, each by itself", alone,
                  f"dimension {whole.shape[1]}")


def _loss_and_gradients(trial: _Trial) -> Result:
    """the loss is a finite scalar whose gradient reaches the whole encoder and nothing frozen."""
    name = "the loss is a finite scalar whose gradient reaches the whole encoder, nothing frozen"
    with tempfile.TemporaryDirectory() as folder:
        loop = trial.loop(Path(folder))
        method = loop.job.method.train()
        loss = method.loss(loop._batch())
    total = sum(loss.values()) if isinstance(loss, dict) else loss
    if not isinstance(total, Tensor) or total.ndim or not torch.isfinite(total):
        return Result(name, False, f"loss {total}")
    total.backward()
    encoder = dict(method.encoder.named_parameters())
    silent = [n for n, p in encoder.items() if p.grad is None or not p.grad.abs().sum() > 0]
    leaks = [n for n, p in method.named_parameters() if not p.requires_grad and p.grad is not None]
    if silent or leaks:
        return Result(name, False, f"no gradient: {silent[:3]}; gradient on frozen: {leaks[:3]}")
    return Result(name, True, f"loss {float(total.detach()):.3f}")


def _learns(trial: _Trial) -> Result:
    """training lowers the loss and the embedding does not collapse."""
    # against a run that hardly moves: a queue that fills makes the loss of any method rise
    still, loop = trial.run(lr=1e-8), trial.run()
    before, after = still.losses[-5:].mean(), loop.losses[-5:].mean()
    encoder = loop.job.method.encoder.eval()
    with torch.no_grad():
        unit = torch.nn.functional.normalize(encoder(views.plain(trial.pixels, SIZE)).float())
    spread = float(unit.var(0).sum())
    return Result("training lowers the loss and the embedding does not collapse",
                  bool(after < before) and spread > COLLAPSED,
                  f"loss {after:.3f}, untrained {before:.3f}, after {loop.num_steps} steps; "
                  f"variance of unit embeddings {spread:.3f}")


def _labels(trial: _Trial) -> Result:
    """labels do not leak."""
    if spec_needs(trial.spec, "labels"):
        return Result("labels do not leak", True, "declared: it is trained on labels")
    shuffled = trial.labels.flip(0)
    same = torch.equal(trial.run().losses, trial.run(labels=shuffled).losses)
    return Result("shuffled labels leave training bit-identical", same)


def _repeats(trial: _Trial) -> Result:
    """the same seed gives the same bytes."""
    return Result("the same seed gives the same bytes", _same(trial.run(), trial.run()))


def _resumes(trial: _Trial) -> Result:
    """a run that is stopped and resumed ends like one that is not."""
    name = "a run that is stopped and resumed ends like one that is not"
    asked = iter([False] * 9 + [True])
    with tempfile.TemporaryDirectory() as folder:
        try:
            trial.loop(Path(folder), stop=lambda: next(asked)).run()
            return Result(name, False, "it did not stop when asked")
        except Interrupted:
            pass
        resumed = trial.loop(Path(folder))
        resumed.run()
    return Result(name, _same(trial.run(), resumed), "stopped after 10 steps")


def _same(one: Loop, other: Loop) -> bool:
    a, b = one.job.method.state_dict(), other.job.method.state_dict()
    return torch.equal(one.losses, other.losses) and a.keys() == b.keys() and all(
        torch.equal(a[name], b[name]) for name in a)


def _recipe_results(spec: MethodSpec, specs: Mapping[str, MethodSpec]) -> Iterator[Result]:
    """A recipe: it expands, names methods that exist, and spends exactly its budget."""
    options, _ = method_options.resolve(spec.options, {}, spec.name)
    try:
        node = load_recipe(spec)(100.0, options)
    except Exception as error:  # whatever a plug-in raises is its failed check
        yield Result("expands", False, f"{type(error).__name__}: {error}")
        return
    runs = _runs(node)
    yield Result("expands", True, f"{len(runs)} pre-training runs")
    missing = sorted({run.method for run in runs} - set(specs))
    yield Result("names methods that exist", not missing, ", ".join(missing))
    spent = sum(run.epochs / (run.subset[0].k if run.subset else 1) for run in runs)
    yield Result("spends exactly its budget", abs(spent - 100.0) < 1e-6,
                 f"{spent:g} of 100 epochs over all images")


def _runs(node: Pretrain) -> list[Pretrain]:
    """Every run of a recipe, each once."""
    found: list[Pretrain] = []

    def visit(run: Pretrain) -> None:
        if run in found:
            return
        for teacher in run.teachers:
            visit(teacher)
        for division in filter(None, (run.groups, run.subset and run.subset[0])):
            assert isinstance(division, Cluster)
            visit(division.base)
        found.append(run)

    visit(node)
    return found
