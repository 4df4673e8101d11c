"""What FNC's search and CLD's clustering add to a step of their base methods, in one run.

    python benchmarks/methods.py [--threads 1] [--steps 1] [--rounds 3] [--only fnc,cld]

FNC with 10 views, batch 64 and a memory of 16 keys an image, against the same views through the
same encoder, momentum encoder and memory without the search: every view against the others' keys
and the memory. CLD with k-means, 64 groups of 128 images, against MoCo v2 with CLD's three views:
two queries, one key. Both with ResNet-18 (CIFAR stem) at 32 x 32, channels last, on views that are
ready; a step is forward, backward, optimiser and after_step. A round is A, B, A, B; the ratio is
the median over the pairs A, B. On a CPU the clock counts CPU seconds of this process, since a
neighbour's work must not count (--clock wall otherwise). Exit code 1 if a ratio is not below
--below.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# as benchmarks/throughput.py: glibc would return large activations to the kernel at every operation
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
if __name__ == "__main__" and any(name not in os.environ for name in MALLOC):
    os.environ.update(MALLOC)
    os.execv(sys.executable, [sys.executable, *sys.argv])

import torch  # noqa: E402  (after the process replaced itself)
from torch import Tensor  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness.training.backbones import build_backbone  # noqa: E402  (after the path is set)
from harness.training.precision import autocast  # noqa: E402
from methods.base import Batch, Info, Method  # noqa: E402
from methods.cld import CLD  # noqa: E402
from methods.fnc import FNC  # noqa: E402
from methods.moco_v2 import MoCoV2  # noqa: E402
from methods.options import build  # noqa: E402
from methods.parts.losses import full_precision, unit  # noqa: E402

SIZE = 32


class MultiView(FNC):
    """FNC's base: each view against the other views' momentum keys and the memory, no search."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean over anchors of -log softmax of their positives, averaged outside."""
        z = self._embed(batch.views)
        new = self._norm(self.target(torch.cat(batch.views))).to(self.memory)
        self.memory = torch.cat([new, self.memory])[: len(self.memory)]
        return multi_view_nce(z, self.memory, len(batch.views), self.config.temperature)


@full_precision
def multi_view_nce(z: Tensor, keys: Tensor, views: int, temperature: float) -> Tensor:
    """Return the loss of z (V B, D) against keys (M, D), the first V B of which are the views'."""
    logits = (z @ keys.T / temperature).fill_diagonal_(-1e9)
    own = keys[: len(z)].unflatten(0, (views, -1))
    others = (own.sum(dim=0, keepdim=True) - own).flatten(0, 1)
    positive = (z * others).sum(dim=1) / temperature / (views - 1)
    return (logits.logsumexp(dim=1) - positive).mean()


class TwoQueries(MoCoV2):
    """CLD's base: MoCo v2 on CLD's views, two queries against one key."""

    views = CLD.views

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean InfoNCE of both queries."""
        *queries, key = batch.views
        return self.instance.loss([unit(self.projector(self.backbone(v))) for v in queries], key)


CASES = {
    "fnc": (64, (FNC, {}), (MultiView, {})),
    "cld": (128, (CLD, {"groups": 64}), (TwoQueries, {})),
}


def main() -> int:
    """Measure, print the table, return the exit code."""
    options = _options()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clock = _Clock(options.clock or ("wall" if device == "cuda" else "cpu"), device)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{options.threads} CPU threads"
    print(f"ResNet-18, {SIZE}x{SIZE}, {options.precision}, {name}, torch {torch.__version__}")
    print(f"{'':6}{'base':>12}{'method':>12}   {clock.name} seconds a step (median)", flush=True)
    slow = False
    for case in options.only.split(","):
        batch_size, method, base = CASES[case]
        steps = [_stepper(*kind, batch_size, options, device) for kind in (method, base)]
        for step in steps:  # kernels are generated at the first step
            step()
        pairs = [[clock.time(step, options.steps) for step in steps]
                 for _ in range(2 * options.rounds)]
        ratios = [ours / bare for ours, bare in pairs]
        ratio = statistics.median(ratios)
        slow |= ratio >= options.below
        ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{case:6}{bare:12.3f}{ours:12.3f}   ratio {ratio:.3f} "
              f"({min(ratios):.3f} to {max(ratios):.3f}, n={len(ratios)} pairs), wanted: below "
              f"{options.below}", flush=True)
    return 1 if slow else 0


class _Clock:
    """Seconds of a call: "cpu" of this process, or "wall"."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self._device = name, device
        self._now = time.process_time if name == "cpu" else time.perf_counter

    def time(self, call: Callable[[], None], times: int) -> float:
        """The seconds of one call, the mean over `times`."""
        start = self._now()
        for _ in range(times):
            call()
        if self._device == "cuda":
            torch.cuda.synchronize()
        return (self._now() - start) / times


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1, help="steps of a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of A, B, A, B")
    parser.add_argument("--clock", choices=("cpu", "wall"), help="default: cpu without a GPU")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--only", default="fnc,cld", help="cases to run")
    parser.add_argument("--below", type=float, default=1.15, help="ratio that may not be reached")
    return parser.parse_args()


def _stepper(kind: type[Method], values: dict[str, object], batch_size: int,
             options: argparse.Namespace, device: str) -> Callable[[], None]:
    """One step of a method on ready views."""
    torch.manual_seed(0)
    backbone = build_backbone("resnet18")
    info = Info(50_000, 10, batch_size, 10**6, int(backbone.feature_dim))
    method = kind(backbone, info, build(kind.Config, values, "benchmark")).to(device).train()
    method = method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    views = [torch.randn(batch_size, 3, SIZE, SIZE, device=device).to(
        memory_format=torch.channels_last) for _ in method.views]
    batch = Batch(views, torch.arange(batch_size, device=device))
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 1e-4, 0.9)

    def step() -> None:
        with autocast(options.precision, device):
            loss = method.loss(batch)
            if isinstance(loss, dict):
                loss = torch.stack(list(loss.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        method.after_step(0.0)

    return step


if __name__ == "__main__":
    sys.exit(main())
