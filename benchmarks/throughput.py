"""Our SimCLR training loop against the bare network on ready tensors, interleaved in one run.

    python benchmarks/throughput.py [--threads 1] [--steps 2] [--rounds 3] [--clock cpu]

A is the loop of a pretraining stage: sampling, two augmented views of uint8 images, SimCLR, the
optimiser, checkpoint clock and loss checks. B is forward, backward and step of the same SimCLR on
two tensors that are ready. A round is A, B, A, B; the ratio is the median over the pairs A, B.
One sample is one image with two views. On a CPU the clock counts CPU seconds of this process, since
a neighbour's work must not count (--clock wall otherwise). Exit code 1 if the ratio is below
--at-least.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# glibc returns large activations to the kernel at every operation: 12 % of a step; must be set
# before the allocator starts, so the process replaces itself once
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
if __name__ == "__main__" and any(name not in os.environ for name in MALLOC):
    os.environ.update(MALLOC)
    os.execv(sys.executable, [sys.executable, *sys.argv])

import torch  # noqa: E402  (after the process replaced itself)

sys.path.insert(0, str(Path(__file__).parents[1]))
from datasets import recipes, views  # noqa: E402  (after the path is set)
from harness.schema import Training  # noqa: E402
from harness.training.backbones import build_backbone  # noqa: E402
from harness.training.feed import Resident  # noqa: E402
from harness.training.loop import Job, Loop, Surroundings, View  # noqa: E402
from harness.training.precision import autocast  # noqa: E402
from methods.base import Batch, Info  # noqa: E402
from methods.simclr import SimCLR  # noqa: E402

SIZE = 32


def main() -> int:
    """Measure, print the table, return the exit code."""
    options = _options()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    job = _job(options, device)
    ready = [torch.randn(options.batch, 3, SIZE, SIZE, device=device).to(
        memory_format=torch.channels_last) for _ in job.views]
    _ours(job, 1), _bare(job, ready, 1)  # warm up: kernels are generated at the first step
    samples = options.batch * options.steps
    clock = _Clock(options.clock or ("wall" if device == "cuda" else "cpu"), device)
    ours, bare = [], []
    for _ in range(2 * options.rounds):
        ours.append(samples / clock.time(lambda: _ours(job, options.steps)))
        bare.append(samples / clock.time(lambda: _bare(job, ready, options.steps)))
    return _report(options, clock.name, device, ours, bare)


class _Clock:
    """Seconds of a call: "cpu" of this process, or "wall"."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self._device = name, device
        self._now = time.process_time if name == "cpu" else time.perf_counter

    def time(self, call: Callable[[], None]) -> float:
        start = self._now()
        call()
        if self._device == "cuda":
            torch.cuda.synchronize()
        return self._now() - start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2, help="steps of a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of A, B, A, B")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--clock", choices=("cpu", "wall"), help="default: cpu without a GPU")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--at-least", type=float, default=0.85, help="ratio that must be reached")
    return parser.parse_args()


def _job(options: argparse.Namespace, device: str) -> Job:
    training = Training(epochs=1e9, batch_size=options.batch, optimizer="sgd", lr=1e-4,
                        precision=options.precision, threads=options.threads)
    torch.manual_seed(0)
    backbone = build_backbone(options.backbone)
    num_images = 4 * options.batch
    info = Info(num_images, 10, options.batch, 10**6, int(backbone.feature_dim))
    method = SimCLR(backbone, info, SimCLR.Config()).to(device)
    method = method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = torch.randint(0, 256, (num_images, SIZE, SIZE, 3), dtype=torch.uint8, device=device)
    labels = torch.zeros(num_images, dtype=torch.int64, device=device)
    return Job(method, Resident(pixels), labels, [_view(), _view()], training, 0, device,
               "benchmark")


def _view() -> View:
    recipe = recipes.RECIPES["simclr_cifar"]
    return lambda images, generator: views.apply(images, recipe, generator, SIZE)


def _ours(job: Job, steps: int) -> None:
    """`steps` steps of a pretraining stage."""
    epochs = steps * job.batch_size / len(job.feed)
    training = Training(**{**vars(job.training), "epochs": epochs})
    with tempfile.TemporaryDirectory() as folder:
        quiet = Surroundings(Path(folder), 60.0, lambda facts: None, lambda: False)
        loop = Loop(Job(**{**vars(job), "training": training}), quiet)
        assert loop.num_steps == steps
        loop.run()


def _bare(job: Job, ready: list[torch.Tensor], steps: int) -> None:
    """`steps` times forward, backward and step on ready tensors."""
    method = job.method.train()
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad],
                                1e-4, 0.9, weight_decay=1e-4)
    batch = Batch(ready, torch.arange(job.batch_size))
    for _ in range(steps):
        with autocast(job.training.precision, job.device):
            loss = method.loss(batch)
        optimizer.zero_grad()
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        optimizer.step()


def _report(options: argparse.Namespace, clock: str, device: str, ours: list[float],
            bare: list[float]) -> int:
    name = torch.cuda.get_device_name() if device == "cuda" else f"{options.threads} CPU threads"
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    ratio = statistics.median(ratios)
    print(f"SimCLR, {options.backbone}, {SIZE}x{SIZE}, batch {options.batch}, "
          f"{options.precision}, {name}, torch {torch.__version__}, n={len(ours)} pairs")
    print(f"{'':24}{'median':>10}{'best':>10}{'worst':>10}   samples / {clock} second")
    for label, values in (("our loop", ours), ("bare network", bare)):
        print(f"{label:24}{statistics.median(values):10.1f}{max(values):10.1f}{min(values):10.1f}")
    print(f"{'ratio of a pair':24}{ratio:10.3f}{max(ratios):10.3f}{min(ratios):10.3f}"
          f"   wanted: median >= {options.at_least}")
    return 0 if ratio >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
