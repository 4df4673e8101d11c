"""The cost of the evaluations against the alternatives, in one run on the same features.

    python benchmarks/evaluation.py [knn] [kmeans] [linear] [--queries 2048] [--rounds 3]
    python benchmarks/evaluation.py memory [--images 2000000] [--width 128] [--only knn,kmeans]

Features are seeded mixtures, 50,000 x 512 (k-means: 50,000 x 128) with 10 and 1,000 classes.
knn: exact weighted kNN against the bare fp32 product, lightly, scikit-learn and faiss (a peer that
is not installed is named). kmeans: 20 iterations from the same start against faiss and
scikit-learn. linear: a sweep of 13 settings against ONE setting of the peers' offline protocol,
which runs the backbone again in every epoch; what is measured of it (a batch of ResNet-18, and all
of it with 2,000 images and 3 epochs) and what is extrapolated from that is said. memory: peak
anonymous memory, which mapped files are not part of, over features in a file.

Contenders take turns in every round. Columns: median CPU seconds of this process (a neighbour's
work does not count), median wall seconds, and the ratio of CPU seconds to the reference of the same
round, median and range. --threads sets the threads of all of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
import datasets  # noqa: E402  (after the path is set)
from datasets import views  # noqa: E402
from harness.evaluation import clusters, knn, linear, linear_sgd, neighbours  # noqa: E402
from harness.evaluation.heads import Heads, batches  # noqa: E402
from harness.evaluation.splits import (  # noqa: E402
    Features,
    TestSplit,
    TrainSplit,
    ValidationSplit,
)
from harness.training.backbones import build_backbone  # noqa: E402

Call = Callable[[], Any]
N, CLASSES, K = 50_000, (10, 1000), (20, 200)
OVERLAP = {10: 8.5, 1000: 3.7}  # noise by number of classes


def mixture(n: int, d: int, classes: int, seed: int, noise: float = 3.0) -> tuple[Tensor, Tensor]:
    """Positive features float32 (n, d) around a mean for each class, as after a ReLU; labels."""
    means = torch.randn(classes, d, generator=torch.Generator().manual_seed(17))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    labels[:classes] = torch.arange(classes)
    return (means[labels] + noise * torch.randn(n, d, generator=generator)).relu_(), labels


def compare(title: str, contenders: dict[str, Call], rounds: int) -> dict[str, Any]:
    """Print a table of `contenders`, the first of which is the reference; returns the results."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    results = {name: call() for name, call in contenders.items()}  # kernels, caches, page faults
    for _ in range(rounds):
        for name, call in contenders.items():
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            seconds[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    print(f"\n{title}  (n={rounds} rounds)\n{'':34}{'CPU s':>9}{'wall s':>9}   CPU ratio (range)")
    reference = [cpu for cpu, _ in next(iter(seconds.values()))]
    for name, found in seconds.items():
        ratios = [cpu / base for (cpu, _), base in zip(found, reference, strict=True)]
        print(f"{name:34}{statistics.median(c for c, _ in found):9.3f}"
              f"{statistics.median(w for _, w in found):9.3f}   {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
    return results


# -- kNN ------------------------------------------------------------------------------------------

def run_knn(options: argparse.Namespace) -> None:
    """Exact kNN, by classes and k."""
    for classes in CLASSES:
        gallery, labels = mixture(N, 512, classes, 0)
        queries, truth = mixture(max(options.queries, classes), 512, classes, 1)
        for k in K:
            _knn_case(gallery, labels, queries, truth, k, options)


def _knn_case(gallery: Tensor, labels: Tensor, queries: Tensor, truth: Tensor, k: int,
              options: argparse.Namespace) -> None:
    classes = int(truth.max()) + 1
    unit, unit_queries = neighbours.unit_rows(gallery), neighbours.unit_rows(queries)
    train = TrainSplit(gallery, labels)

    def product() -> None:
        for block in unit_queries.split(1024):
            block @ unit.T

    contenders: dict[str, Call] = {
        "fp32 product": product, "this": lambda: knn.predict(train, queries, k, 0.1, classes)}
    if not options.no_peers:
        contenders |= _knn_peers(unit, unit_queries, labels, classes, k)
    found = compare(f"kNN, {len(queries)} queries of {N} x 512, {classes} classes, k={k}",
                    contenders, options.rounds)
    for name, predicted in found.items():
        if predicted is not None:
            right = (torch.as_tensor(predicted) == truth).double().mean()
            print(f"  top-1 {name}: {right:.4f}")


def _knn_peers(unit: Tensor, queries: Tensor, labels: Tensor, classes: int,
               k: int) -> dict[str, Call]:
    import faiss
    from sklearn.neighbors import KNeighborsClassifier

    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit.numpy())
    model = KNeighborsClassifier(k, algorithm="brute").fit(unit.numpy(), labels.numpy())

    def by_faiss() -> Tensor:
        similarity, near = index.search(queries.numpy(), k)
        return knn.votes(torch.from_numpy(similarity), labels[torch.from_numpy(near)], 0.1,
                         classes).argmax(1)

    found: dict[str, Call] = {"scikit-learn (equal votes)": lambda: model.predict(queries.numpy()),
                              "faiss IndexFlatIP": by_faiss}
    if predict := _lightly():
        bank = unit.T.contiguous()
        found["lightly"] = lambda: torch.cat(
            [predict(q, bank, labels, classes, k, 0.1)[:, 0] for q in queries.split(512)])
    return found


def _lightly() -> Any:
    """lightly's knn_predict, from its file: importing the package needs lightning."""
    spec = importlib.util.find_spec("lightly")
    if spec is None or spec.origin is None:
        print("lightly is not installed: not measured")
        return None
    path = Path(spec.origin).parent / "utils/benchmarking/knn.py"
    file = importlib.util.spec_from_file_location("lightly_knn", path)
    assert file is not None and file.loader is not None
    module = importlib.util.module_from_spec(file)
    file.loader.exec_module(module)
    return module.knn_predict


# -- k-means --------------------------------------------------------------------------------------

def run_kmeans(options: argparse.Namespace) -> None:
    """20 iterations from the same start."""
    import faiss
    from sklearn.cluster import KMeans

    faiss.omp_set_num_threads(options.threads)
    for k in (10, 1000):
        x = neighbours.unit_rows(mixture(N, 128, 200, 0, noise=2.0)[0]).numpy()
        start = x[np.random.default_rng(0).choice(N, k, replace=False)]

        def ours(x: Any = x, start: Any = start) -> Any:
            return clusters.lloyd(x, start, 20).centroids

        def by_sklearn(x: Any = x, start: Any = start, k: int = k) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # 20 iterations are not convergence
                return KMeans(k, init=start, n_init=1, max_iter=20, tol=0).fit(x).cluster_centers_

        def by_faiss(x: Any = x, start: Any = start, k: int = k) -> Any:
            found = faiss.Kmeans(128, k, niter=20, spherical=True,
                                 min_points_per_centroid=1, max_points_per_centroid=N)
            found.train(x, init_centroids=start)
            return found.centroids

        found = compare(f"k-means, {N} x 128, k={k}, 20 iterations",
                        {"scikit-learn": by_sklearn, "faiss (spherical)": by_faiss, "this": ours},
                        options.rounds)
        for name, centroids in found.items():
            best = (x @ clusters._unit_rows(np.asarray(centroids, np.float32)).T).max(1)
            print(f"  mean cosine, {name}: {best.mean():.5f}")


# -- linear ---------------------------------------------------------------------------------------

def run_linear(options: argparse.Namespace) -> None:
    """13 settings by L-BFGS and by SGD against one setting with the backbone in every epoch."""
    backbone = build_backbone("resnet18").eval().to(memory_format=torch.channels_last)
    embed = _embedding(backbone)
    images = torch.randn(256, 3, 32, 32)
    embed(images)
    costs = []
    for _ in range(max(3, options.rounds)):
        start = time.process_time()
        embed(images)
        costs.append((time.process_time() - start) / 256)
    one_pass = statistics.median(costs) * N
    print(f"\nResNet-18 forward at 32 x 32, bf16: measured {one_pass / N * 1e3:.2f} CPU ms an "
          f"image (n={len(costs)} batches of 256); extrapolated: {one_pass:.0f} s for {N} images, "
          f"{100 * one_pass:.0f} s for 100 epochs")
    _backbone_every_epoch(embed)
    for classes in CLASSES:
        _linear_case(classes, one_pass, options)


def _embedding(backbone: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def embed(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            found: Tensor = backbone(images.to(memory_format=torch.channels_last))
        return found.float()

    return embed


def _backbone_every_epoch(embed: Callable[[Tensor], Tensor], n: int = 2000) -> None:
    """The peers' form at a size that can be measured: the same head from the same batches, its
    features made in every epoch, and made once. Real images (photos), a random network."""
    found = datasets.build(datasets.resolve({"source": "photos", "image_size": 32, "size": None}),
                           "train")
    chosen = np.random.default_rng(0).permutation(len(found))[:n + 1000]
    images = views.plain(torch.from_numpy(np.asarray(found.pixels)[chosen]), 32)
    labels = torch.from_numpy(found.labels[chosen])
    config = linear_sgd.Config(lrs=(0.1,), epochs=3.0, batch_size=256)
    tests: dict[str, Tensor] = {}
    for name in ("features once", "backbone every epoch"):
        start = time.process_time()
        cached = torch.cat([embed(part) for part in images.split(256)])
        heads = Heads.start(cached.shape[1], len(found.class_names), config.grid(), config, "cpu")
        for _, index, factor, _ in batches(n, config, 0):
            x = cached[index] if name == "features once" else embed(images[index])
            heads.step(x, labels[index], factor)
        tests[name] = heads.scores(0, cached[n:]).argmax(1)
        right = (tests[name] == labels[n:]).double().mean()
        print(f"  {n} images, 3 epochs, one setting, {name}: top-1 {right:.4f}, "
              f"{time.process_time() - start:.1f} CPU s with one extraction of {n + 1000}")
    same = (tests["features once"] == tests["backbone every epoch"]).double().mean()
    print(f"  predictions that are equal: {same:.4f}", flush=True)


def _linear_case(classes: int, one_pass: float, options: argparse.Namespace) -> None:
    rates = tuple(0.01 * 1.5**i for i in range(13))
    # 100 epochs are measured in part: a step costs the same in every epoch
    epochs = 10.0 if classes == 10 else 1.0
    sweep = linear_sgd.Config(lrs=rates, epochs=epochs, batch_size=256)
    print(f"\nlinear, {N} x 512, {classes} classes: CPU s of 100 epochs, with one extraction; "
          "ratio of one setting that runs the backbone in each of 100 epochs (extrapolated) to it")
    found, seconds = _fitted(classes, lambda d: linear_sgd.linear_sgd(d, sweep, None))
    chosen = found["selected"]["lr"]
    one = linear_sgd.Config(lrs=(chosen,), epochs=epochs, batch_size=256)
    alone, alone_s = _fitted(classes, lambda d: linear_sgd.linear_sgd(d, one, None))
    times, said = 100 / epochs, f"measured {epochs:g} epochs, extrapolated to 100"
    peers = 100 * one_pass + alone_s * times
    print(f"{'1 setting, backbone every epoch':34}{peers:9.0f} (extrapolated)  top-1 "
          f"{alone['top1']:.4f}, its head on the same features, lr {chosen:.3g}")
    _linear_line("13 settings, SGD, one pass", seconds * times, one_pass, peers, found, said)
    rounded = dataclasses.replace(sweep, products="bf16")
    low, low_s = _fitted(classes, lambda d: linear_sgd.linear_sgd(d, rounded, None))
    _linear_line("13 settings, products=bf16", low_s * times, one_pass, peers, low, said)
    _linear_line("1 setting, SGD on features", alone_s * times, one_pass, peers, alone, said)
    if options.slow:
        config = linear.Config(dtype="float32", max_iterations=200)
        path, path_s = _fitted(classes, lambda d: linear.linear(d, config, None))
        _linear_line("13 settings, L-BFGS", path_s, one_pass, peers, path, "measured")


def _linear_line(name: str, seconds: float, one_pass: float, peers: float, found: dict[str, Any],
                 said: str) -> None:
    print(f"{name:34}{seconds:9.1f} + {one_pass:.0f}  top-1 {found['top1']:.4f}  "
          f"{peers / (one_pass + seconds):.1f} times  ({said})", flush=True)


def _fitted(classes: int, call: Callable[[Features], Any]) -> tuple[Any, float]:
    """The result on features whose classes overlap, and its CPU seconds."""
    data = _splits(512, classes)
    start = time.process_time()
    found = call(data)
    return found, time.process_time() - start


def _splits(d: int, classes: int) -> Features:
    # so that about 0.7 of the test images are right
    noise = OVERLAP[classes]
    return Features(TrainSplit(*mixture(N, d, classes, 0, noise)),
                    ValidationSplit(*mixture(5000, d, classes, 1, noise)),
                    TestSplit(*mixture(5000, d, classes, 2, noise)), classes)


# -- memory ---------------------------------------------------------------------------------------

def run_memory(options: argparse.Namespace) -> None:
    """Peak anonymous memory of every evaluation over a file of features.

    peak_mb is above what the process had before, which may hold freed memory that is used again;
    process_mb is all of the process, torch included.
    """
    for module, name, value in ((neighbours, "GALLERY", 2**25), (linear, "RESIDENT", 2**27),
                                (clusters, "RESIDENT", 2**26)):
        setattr(module, name, value // options.shrink)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        data = _mapped(Path(folder) / "x.npy", options.images, options.width)
        tasks: dict[str, Call] = {
            "knn": lambda: knn.knn(data, knn.Config(k=20), None),
            "linear_sgd": lambda: linear_sgd.linear_sgd(
                data, linear_sgd.Config(epochs=1.0, batch_size=1024), None),
            "linear": lambda: linear.linear(
                data, linear.Config(l2_count=3, max_iterations=5, dtype="float32"), None),
            "kmeans": lambda: {"top1": clusters.spherical_kmeans(
                data.train.features.numpy(), 10, 0, restarts=1, iterations=5).objective}}
        for name in options.only.split(","):
            data.test._labels = data.validation.labels  # a run of its own
            before = _anonymous()
            with _Peak() as peak:
                cpu, wall = time.process_time(), time.perf_counter()
                result = tasks[name]()
            print(json.dumps({
                "evaluation": name, "images": options.images, "width": options.width,
                "file_mb": options.images * options.width * 4 // 10**6,
                "peak_mb": round((peak.value - before) / 1e6, 1),
                "process_mb": round(peak.value / 1e6), "result": result["top1"],
                "cpu_s": round(time.process_time() - cpu, 1),
                "wall_s": round(time.perf_counter() - wall, 1)}), flush=True)


def _mapped(path: Path, n: int, d: int) -> Features:
    """A training split of n rows in a file, and small others."""
    array = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
    labels = torch.empty(n, dtype=torch.int64)
    for start in range(0, n, 10_000):
        x, y = mixture(min(10_000, n - start), d, 10, start)
        array[start:start + len(x)], labels[start:start + len(y)] = x.numpy(), y
    array.flush()
    del array
    x = torch.from_numpy(np.load(path, mmap_mode="c"))
    other = mixture(1000, d, 10, 1)
    return Features(TrainSplit(x, labels), ValidationSplit(*other), TestSplit(*other), 10)


def _anonymous() -> int:
    """Bytes of this process that are no file's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status: memory is measured on Linux")


class _Peak:
    """The largest anonymous memory while it is open, looked at every 5 ms."""

    def __enter__(self) -> _Peak:
        self.value, self._done = _anonymous(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.value = max(self.value, _anonymous())


RUNS = {"knn": run_knn, "kmeans": run_kmeans, "linear": run_linear, "memory": run_memory}


def main() -> None:
    """Run what is asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", nargs="*", default=["knn", "kmeans", "linear"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=2048)
    parser.add_argument("--no-peers", action="store_true", help="kNN: the product and this only")
    parser.add_argument("--slow", action="store_true", help="linear: L-BFGS too")
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--only", default="knn,linear_sgd,linear,kmeans", help="memory: of these")
    parser.add_argument("--shrink", type=int, default=1, help="memory: blocks are smaller by this")
    parser.add_argument("--folder", help="memory: where the file of features is made")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        print(f"torch {torch.__version__}, {options.threads} threads, "
              f"{torch.backends.cpu.get_cpu_capability()}", flush=True)
        for what in options.what:
            RUNS[what](options)


if __name__ == "__main__":
    main()
