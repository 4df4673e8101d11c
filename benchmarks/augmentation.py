"""Views a second: this project's batched engine against torchvision's pipeline, and kornia's.

    python benchmarks/augmentation.py [--recipe simclr_cifar] [--rounds 3] [--threads 1]

All in one run, alternating (A, B, A, B, ...), so that other load on the machine falls on everyone.
torchvision runs as its users run it: one PIL image at a time in a DataLoader with two workers. Ours
and kornia's run in the process itself, by default on one thread: on a busy machine a second thread
waits at barriers and measures the neighbours. Prints medians and ratios; exits with 1 below 10x.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets import views  # noqa: E402 (the path of a clone that is not installed)
from datasets.randaugment import POLICIES  # noqa: E402 (as above)
from datasets.recipes import RECIPES, View  # noqa: E402 (as above)

# the recipes that torchvision can be asked for at one size
NAMES = sorted(name for name, view in RECIPES.items() if view.size is None)
SIDE = 32
BATCH = 256
TARGET = 10.0
WORKERS = 2


class Pictures(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Two views an image through torchvision's transforms on PIL images."""

    def __init__(self, images: np.ndarray, view: View) -> None:
        self.images, self.transform = images, torchvision_pipeline(view)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = Image.fromarray(self.images[index])
        return self.transform(image), self.transform(image)


def torchvision_pipeline(view: View) -> transforms.Compose:
    """The recipe in torchvision's words."""
    ratio = (1 / view.aspect, view.aspect)
    jitter = transforms.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue)
    steps = [transforms.RandomResizedCrop(SIDE, (view.crop_min, view.crop_max), ratio),
             transforms.RandomHorizontalFlip(view.flip),
             transforms.RandomApply([jitter], view.jitter_p)]
    if view.randaugment != "none":  # torchvision's own 14 operations; its magnitudes run to 30
        policy = POLICIES[view.randaugment]
        steps.append(transforms.RandAugment(policy.layers, int(3 * policy.magnitude)))
    steps += [transforms.RandomGrayscale(view.gray), transforms.ToTensor()]
    if view.blur_p:
        steps.append(transforms.RandomApply([transforms.GaussianBlur(3, view.sigma)], view.blur_p))
    steps.append(transforms.Normalize(views.MEAN, views.STD))
    return transforms.Compose([*steps, transforms.RandomErasing(view.erase_p)])


def torchvision_loader(images: np.ndarray, view: View) -> Callable[[], int]:
    """One pass over the images with two worker processes that are already running."""
    loader = torch.utils.data.DataLoader(Pictures(images, view), BATCH, num_workers=WORKERS,
                                         persistent_workers=True)
    sum(1 for _ in loader)  # the workers start here, outside the clock

    def run() -> int:
        return sum(len(one) + len(two) for one, two in loader)

    return run


def ours(images: np.ndarray, view: View, threads: int) -> Callable[[], int]:
    """The same number of views by the batched engine."""
    pixels, generator = torch.from_numpy(images), torch.Generator().manual_seed(0)

    def run() -> int:
        torch.set_num_threads(threads)
        done = 0
        for start in range(0, len(pixels), BATCH):
            batch = pixels[start:start + BATCH]
            done += sum(len(views.apply(batch, view, generator, SIDE)) for _ in range(2))
        return done

    return run


def kornia_pipeline(images: np.ndarray, view: View, threads: int) -> Callable[[], int]:
    """The same by kornia's AugmentationSequential."""
    import kornia.augmentation as K

    low, high = 1 / view.aspect, view.aspect
    pipeline = K.AugmentationSequential(
        K.RandomResizedCrop((SIDE, SIDE), (view.crop_min, view.crop_max), (low, high)),
        K.RandomHorizontalFlip(p=view.flip),
        K.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue, p=view.jitter_p),
        K.RandomGrayscale(p=view.gray),
        K.Normalize(torch.tensor(views.MEAN), torch.tensor(views.STD)))
    pixels = torch.from_numpy(images)

    def run() -> int:
        torch.set_num_threads(threads)
        done = 0
        for start in range(0, len(pixels), BATCH):
            batch = pixels[start:start + BATCH].permute(0, 3, 1, 2).float() / 255
            done += sum(len(pipeline(batch)) for _ in range(2))
        return done

    return run


def measure(runners: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Views a second of every runner in every round, alternating."""
    speeds: dict[str, list[float]] = {name: [] for name in runners}
    for run in runners.values():
        run()  # warm-up
    for _ in range(rounds):
        for name, run in runners.items():
            began = time.perf_counter()
            done = run()
            speeds[name].append(done / (time.perf_counter() - began))
    return speeds


def two_views(images: np.ndarray, view: View, repeats: int = 50) -> tuple[float, float]:
    """Median and best milliseconds for two views of 256 images on one thread."""
    run = ours(images[:BATCH], view, threads=1)
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times), min(times)


def main() -> int:
    """Print the table; 0 if the engine reaches the target."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="simclr_cifar", choices=NAMES)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    view = RECIPES[chosen.recipe]
    shape = (chosen.images, SIDE, SIDE, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    runners = {"torchvision, PIL, 2 workers": torchvision_loader(images, view),
               "this project": ours(images, view, chosen.threads)}
    if importlib.util.find_spec("kornia") and view.randaugment == "none":
        runners["kornia"] = kornia_pipeline(images, view, chosen.threads)
    speeds = measure(runners, chosen.rounds)
    middles = {name: statistics.median(values) for name, values in speeds.items()}
    base = middles["torchvision, PIL, 2 workers"]
    print(f"{chosen.recipe}, {SIDE}x{SIDE}, batch {BATCH}, {chosen.rounds} alternating rounds, "
          f"{chosen.threads} thread(s)")
    for name, values in speeds.items():
        print(f"{name:30s} {middles[name]:10,.0f} views/s  x{middles[name] / base:5.1f}  "
              f"(min {min(values):,.0f}, max {max(values):,.0f})")
    if "kornia" not in runners:
        print("kornia: not measured (not installed, or the recipe has RandAugment)")
    median, best = two_views(images, view)
    print(f"two views of {BATCH} images, 1 thread: median {median:.1f} ms, best {best:.1f} ms")
    ratio = middles["this project"] / base
    if "kornia" in middles:
        print(f"against kornia: x{middles['this project'] / middles['kornia']:.1f}")
    if chosen.json:
        chosen.json.write_text(json.dumps({"recipe": chosen.recipe, "views_per_second": speeds,
                                           "two_views_ms": {"median": median, "best": best}}))
    print(f"ratio {ratio:.1f}, target {TARGET:.0f}: {'reached' if ratio >= TARGET else 'MISSED'}")
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
