"""The data path: opening a pack, two-view augmentation, decoding and cropping JPEGs.

    python benchmarks/data.py [--parts open,augment,decode] [--rounds 5] [--json FILE]

Rounds alternate (A, B, C, A, B, C, ...), so that other load falls on everyone; printed are medians,
the spread and n. On a busy machine the wall clock measures the neighbours, so what one thread of
one process does is judged by its CPU time: opening (the wall clock is printed beside it, and with
a cold cache it includes the disk), kornia, decoding. torchvision's pipeline works in two other
processes and is compared by the wall clock, which favours it: it has two processes, we one.
Libraries that are not installed are named and left out. Exits with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

PARTS = ("open", "augment", "decode")
OPEN_MS, TORCHVISION, KORNIA = 50.0, 10.0, 5.0  # targets: milliseconds, ratios
IMAGES, SIDE = 50_000, 32
CROP, WIDTH, HEIGHT = 224, 500, 375

# runs in a process of its own, which has imported NumPy and nothing else of ours
OPEN = """
import os, sys, time, json
import numpy as np
path, packs, state, wanted = sys.argv[1:5]
resolved = json.loads(sys.argv[5])
for folder, _, names in os.walk(packs):
    for name in names:
        if state == "cold":  # this pack's pages leave the cache
            with open(os.path.join(folder, name), "rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
clock = [(time.perf_counter(), time.process_time())]
import datasets
clock.append((time.perf_counter(), time.process_time()))
images = datasets.build(resolved, "train", path, packs if wanted == "pack" else None)
clock.append((time.perf_counter(), time.process_time()))
total = int(images.pixels[np.random.default_rng(0).integers(0, len(images), 256)].sum())
clock.append((time.perf_counter(), time.process_time()))
assert len(images) == 50000
print(json.dumps([[1e3 * (b - a) for a, b in zip(*pair)] for pair in zip(clock, clock[1:])]))
"""


def main() -> int:
    """Run the parts; 0 if every target is reached."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    run = {"open": opening, "augment": augmenting, "decode": decoding}
    parts = chosen.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    found = {part: run[part](chosen.rounds) for part in parts}
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    missed = [line for part in found.values() for line in part["missed"]]
    for line in missed:
        print(f"MISSED: {line}")
    return 1 if missed else 0


def spread(values: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):10,.1f}  ({min(values):,.1f} to {max(values):,.1f})"


# -- opening --------------------------------------------------------------------------------------


def opening(rounds: int) -> dict[str, Any]:
    """Milliseconds until 50,000 images of 32x32 can be indexed, in fresh processes."""
    import datasets
    from datasets import packing

    with tempfile.TemporaryDirectory() as folder:
        path, packs = Path(folder, "images.npz"), Path(folder, "packs")
        rng = np.random.default_rng(0)
        arrays = {}
        for part, count in (("train", IMAGES), ("validation", 1000), ("test", 1000)):
            arrays[f"x_{part}"] = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
            arrays[f"y_{part}"] = np.arange(count) % 10
        np.savez(path, **arrays)
        resolved = datasets.resolve({"source": "npz", "path": str(path)})
        packing.pack(resolved, packs, path)
        cases = [("pack", "warm"), ("pack", "cold"), ("npz", "warm")]
        found: dict[str, list[Any]] = {" ".join(case): [] for case in cases}
        for _ in range(rounds):
            for wanted, state in cases:
                command = [sys.executable, "-c", OPEN, str(path), str(packs), state, wanted,
                           json.dumps(resolved)]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
                found[f"{wanted} {state}"].append(json.loads(done.stdout))
    print(f"opening {IMAGES} images of {SIDE}x{SIDE}, fresh processes, n={rounds}, milliseconds: "
          "median (spread)")
    steps = ("import datasets", "open", "first 256 images")
    for case, rows in found.items():
        for number, step in enumerate(steps):
            wall = [row[number][0] for row in rows]
            cpu = [row[number][1] for row in rows]
            print(f"  {case:10} {step:18} wall {spread(wall)}   CPU {spread(cpu)}")
    missed = []
    for case in ("pack warm", "pack cold"):
        middle = statistics.median(row[1][1] for row in found[case])  # CPU
        if middle > OPEN_MS:
            missed.append(f"{case}: {middle:.1f} CPU ms, at most {OPEN_MS:.0f}")
    return {"milliseconds": found, "missed": missed}


# -- augmentation ---------------------------------------------------------------------------------


def augmenting(rounds: int) -> dict[str, Any]:
    """Views a second of SimCLR's CIFAR recipe, two views an image."""
    import augmentation

    from datasets.recipes import RECIPES

    view = RECIPES["simclr_cifar"]
    images = np.random.default_rng(0).integers(0, 256, (1024, SIDE, SIDE, 3), dtype=np.uint8)
    runners = {"this project": augmentation.ours(images, view, 1),
               "torchvision, PIL, 2 workers": augmentation.torchvision_loader(images, view)}
    if importlib.util.find_spec("kornia"):
        runners["kornia"] = augmentation.kornia_pipeline(images, view, 1)
    else:
        print("kornia: not installed, left out")
    wall: dict[str, list[float]] = {name: [] for name in runners}
    cpu: dict[str, list[float]] = {name: [] for name in runners}
    for run in runners.values():
        run()
    for _ in range(rounds):
        for name, run in runners.items():
            began, busy = time.perf_counter(), time.process_time()
            done = run()
            wall[name].append(done / (time.perf_counter() - began))
            cpu[name].append(done / (time.process_time() - busy))
    print(f"two views of {SIDE}x{SIDE}, batch {augmentation.BATCH}, n={rounds} rounds, views a "
          "second: median (spread); ratio of this project in the same round")
    missed, ratios = [], {}
    for name, target in (("torchvision, PIL, 2 workers", TORCHVISION), ("kornia", KORNIA)):
        if name not in runners:
            continue
        clock, speeds = ("CPU", cpu) if name == "kornia" else ("wall", wall)
        pairs = [a / b for a, b in zip(speeds["this project"], speeds[name], strict=True)]
        ratios[f"{name}, {clock}"] = pairs
        print(f"  {clock:4} this project                {spread(speeds['this project'])}")
        print(f"  {clock:4} {name:27} {spread(speeds[name])}   ratio {spread(pairs)}")
        if statistics.median(pairs) < target:
            missed.append(f"against {name}: {statistics.median(pairs):.1f}, at least {target:.0f}")
    return {"wall": wall, "cpu": cpu, "ratios": ratios, "missed": missed}


# -- decoding -------------------------------------------------------------------------------------


def pictures(count: int) -> list[bytes]:
    """JPEGs of 500x375 (quality 90, 4:2:0) whose spectrum falls as 1/f, as photographs' does."""
    rng = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    weight = 1 / np.maximum(np.hypot(rows, columns), 1 / WIDTH)
    found = []
    for _ in range(count):
        noise = rng.normal(size=(3, *weight.shape)) + 1j * rng.normal(size=(3, *weight.shape))
        shared = 0.8 * noise[:1] + 0.4 * noise  # channels of photographs are alike
        pixels = np.fft.irfft2(shared * weight, (HEIGHT, WIDTH)).transpose(1, 2, 0)
        pixels = (pixels / pixels.std() * 60 + 120).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "jpeg", quality=90)
        found.append(stream.getvalue())
    return found


def boxes(count: int) -> list[tuple[int, int, int, int]]:
    """Left, top, width, height of random resized crops, 8 to 100 % of the image."""
    import torch

    from datasets.views_geometry import crop_boxes

    uniform = torch.rand(count, 22, generator=torch.Generator().manual_seed(0))
    top, left, tall, wide = crop_boxes(uniform, HEIGHT, WIDTH, (0.08, 1.0), 4 / 3)
    return [(int(x), int(y), int(w), int(h)) for y, x, h, w in zip(top, left, tall, wide,
                                                                   strict=True)]


Box = tuple[int, int, int, int]
One = Callable[[bytes, Box], Any]


def _pil(data: bytes, box: Box, *, draft: bool = False) -> Any:
    x, y, w, h = box
    with Image.open(io.BytesIO(data)) as image:
        scale = 1.0
        if draft:  # the smallest scale at which the crop is still as large as wanted
            share = CROP / min(w, h)
            if share < 1:
                image.draft("RGB", (int(WIDTH * share) + 1, int(HEIGHT * share) + 1))
                scale = image.width / WIDTH
        area = (x * scale, y * scale, (x + w) * scale, (y + h) * scale)
        return np.asarray(image.resize((CROP, CROP), Image.Resampling.BILINEAR, box=area))


def _resized(pixels: Any, box: Box) -> Any:
    """Crop and resize by OpenCV; where it is not there, by Pillow."""
    x, y, w, h = box
    if importlib.util.find_spec("cv2"):
        import cv2

        how = cv2.INTER_AREA if w > CROP else cv2.INTER_LINEAR
        return cv2.resize(pixels[y:y + h, x:x + w], (CROP, CROP), interpolation=how)
    return np.asarray(Image.fromarray(pixels).resize(
        (CROP, CROP), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h)))


def _opencv() -> One:
    import cv2

    cv2.setNumThreads(1)

    def one(data: bytes, box: Box) -> Any:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return cv2.cvtColor(_resized(pixels, box), cv2.COLOR_BGR2RGB)

    return one


def _simplejpeg(*, fast: bool) -> One:
    import simplejpeg

    return lambda data, box: _resized(
        simplejpeg.decode_jpeg(data, "RGB", fastdct=fast, fastupsample=fast), box)


def _turbojpeg() -> One:
    import turbojpeg

    library = turbojpeg.TurboJPEG()  # RuntimeError where the system has no libturbojpeg
    return lambda data, box: _resized(library.decode(data, pixel_format=turbojpeg.TJPF_RGB), box)


def _torchvision() -> One:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2.functional import resized_crop

    def one(data: bytes, box: Box) -> Any:
        x, y, w, h = box
        raw = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        return resized_crop(decode_jpeg(raw, ImageReadMode.RGB), y, x, h, w, [CROP, CROP],
                            antialias=True)

    return one


def _ours(decoder: str, *, crop: bool = True) -> Callable[[list[bytes], list[Box]], None]:
    """What a stream does: whole images on a canvas, all crops of a batch as two products.

    crop=False: what of it is the CPU's part where the device is a GPU, for any number of views.
    """
    import torch

    from datasets import decoders
    from datasets.views_geometry import resize_matrix, separable
    from harness.training.feed import _canvas

    def batch(files: list[bytes], areas: list[Box]) -> None:
        for start in range(0, len(files), 32):
            canvas = _canvas([decoders.whole(data, 512, decoder)
                              for data in files[start:start + 32]])
            if not crop:
                continue
            x, y, w, h = torch.tensor(areas[start:start + 32], dtype=torch.float32).unbind(1)
            height, width = canvas.pixels.shape[1:3]
            separable(canvas.pixels.permute(0, 3, 1, 2), resize_matrix(y, h, height, CROP),
                      resize_matrix(x, w, width, CROP))

    return batch


def decoders_here() -> dict[str, Callable[[list[bytes], list[Box]], None]]:
    """Every way that can run here; the others are named."""
    def each(one: One) -> Callable[[list[bytes], list[Box]], None]:
        def run(files: list[bytes], areas: list[Box]) -> None:
            for data, box in zip(files, areas, strict=True):
                one(data, box)
        return run

    makers: dict[str, Callable[[], Callable[[list[bytes], list[Box]], None]]] = {
        "PIL": lambda: each(_pil),
        "PIL, draft": lambda: each(lambda data, box: _pil(data, box, draft=True)),
        "torchvision.io, v2": lambda: each(_torchvision()),
        "OpenCV": lambda: each(_opencv()),
        "simplejpeg": lambda: each(_simplejpeg(fast=False)),
        "simplejpeg, fast": lambda: each(_simplejpeg(fast=True)),
        "PyTurboJPEG": lambda: each(_turbojpeg()),
        "ours, pil, to canvas": lambda: _ours("pil", crop=False),
        "ours, simplejpeg, to canvas": lambda: _needs("simplejpeg") or _ours("simplejpeg",
                                                                             crop=False),
        "ours, pil, CPU crop": lambda: _ours("pil"),
        "ours, simplejpeg, CPU crop": lambda: _needs("simplejpeg") or _ours("simplejpeg"),
    }
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except (ImportError, RuntimeError, OSError) as error:
            print(f"{name}: left out ({' '.join(str(error).split())[:90]})")
    return found


def _needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"no module named {module}")


def decoding(rounds: int, count: int = 64) -> dict[str, Any]:
    """Images a CPU second from a 500x375 JPEG to a random crop of 224, on one thread."""
    import torch

    torch.set_num_threads(1)
    files, areas = pictures(count), boxes(count)
    ways = decoders_here()
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(files[:8], areas[:8])
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            way(files, areas)
            speeds[name].append(count / (time.process_time() - began))
    size = statistics.mean(map(len, files)) / 1e3
    print(f"{WIDTH}x{HEIGHT} JPEG ({size:.0f} kB) to a random crop of {CROP}, n={rounds} rounds of "
          f"{count}, images a CPU second of one thread: median (spread); ratio to PIL")
    for name, values in speeds.items():
        pairs = [a / b for a, b in zip(values, speeds["PIL"], strict=True)]
        print(f"  {name:28} {spread(values)}   ratio {spread(pairs)}")
    return {"images_per_cpu_second": speeds, "missed": []}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
