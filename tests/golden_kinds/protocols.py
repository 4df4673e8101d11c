"""Golden checks of evaluations, data controls and augmentation pieces."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from datasets import counts, views_legacy
from datasets import views_colour as colour
from datasets import views_geometry as geometry
from golden_kinds.compare import Vector, kind, tensor
from harness.evaluation import clusters, knn
from harness.evaluation.shots import balancedness, shot_accuracies
from harness.evaluation.splits import TrainSplit

CLD_NAMES = {
    "xtr": "x_train",
    "ytr": "y_train",
    "xte": "x_test",
    "yte": "y_test",
    "scores": "class_scores",
}


@kind(r"knn_K.*", r"npid_knn_K.*")
def weighted_knn(vector: Vector) -> None:
    """Class scores and accuracies of weighted kNN (1e-3: scores are exp(s / sigma), s float32)."""
    found = {CLD_NAMES.get(key, key): value for key, value in vector.items()}
    train = TrainSplit(tensor(found["x_train"]), tensor(found["y_train"]))
    classes = found["class_scores"].shape[1]

    def scores_of(k: int) -> np.ndarray:
        sigma = float(found["sigma"])
        return knn.class_scores(train, tensor(found["x_test"]), k, sigma, classes).numpy()

    scores = scores_of(int(found["K"]))
    np.testing.assert_allclose(scores, found["class_scores"], rtol=1e-3, atol=1e-2)
    labels = found["y_test"]
    np.testing.assert_allclose((scores.argmax(1) == labels).mean(), found["top1"])
    if "pred" in found:
        np.testing.assert_array_equal(scores.argmax(1), found["pred"])
        np.testing.assert_allclose((scores_of(1).argmax(1) == labels).mean(), found["nn1"])
    if "top5" in found:
        best = np.argsort(-scores, axis=1)[:, :5]
        np.testing.assert_allclose((best == labels[:, None]).any(1).mean(), found["top5"])


@kind(r"formula_cluster_metrics.*")
def cluster_metrics(vector: Vector) -> None:
    """How a division fits the classes."""
    found = clusters.agreement(vector["labels"], vector["clusters"])
    expected = {
        "majority_top1": "top1_majority",
        "mutual_information_bits": "mi_bits",
        "class_in_main_cluster": "mean_class_fraction_in_its_main_cluster",
    }
    for name, key in expected.items():
        np.testing.assert_allclose(found[name], vector[key])


@kind(r"formula_shot_groups.*")
def shot_groups(vector: Vector) -> None:
    """Accuracy of many, medium and few shots under each rule, and the spreads."""
    accuracies, sizes = vector["per_class_acc"].tolist(), vector["train_counts"].tolist()
    for rule, key in (
        ("oltr", "oltr"),
        ("sdclr_imagenet", "sdclr_imagenet"),
        ("thirds", "sdclr_cifar_thirds"),
    ):
        groups = list(shot_accuracies(accuracies, sizes, rule).values())
        np.testing.assert_allclose(groups, vector[key])
        spread = f"std_over_three_groups_{rule}"
        if spread in vector:
            np.testing.assert_allclose(balancedness(groups), vector[spread])
    np.testing.assert_allclose(balancedness(accuracies), vector["std_over_classes"])


@kind(r"formula_spherical_kmeans.*")
def spherical_kmeans(vector: Vector) -> None:
    """The first step and the fixed point from recorded centroids."""
    unit, start = (
        v / np.linalg.norm(v, axis=1, keepdims=True) for v in (vector["X"], vector["C0"])
    )
    one, final = clusters.lloyd(unit, start, 1), clusters.lloyd(unit, start, 100)
    np.testing.assert_allclose(one.centroids, vector["C1_unit"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(final.assignment, vector["assign_final"])
    np.testing.assert_allclose(final.centroids, vector["C_final"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(final.objective, vector["objective_final"], rtol=1e-6)


@kind(r"cifar_lt_class_counts.*")
def long_tail_counts(vector: Vector) -> None:
    """Class counts of the official long-tailed CIFAR sets."""
    for key, expected in vector.items():
        words = key.split("_")
        if key.startswith("sdclr"):
            got = counts.sdclr_counts(
                int(words[1].removeprefix("cifar")), 1 / float(words[2].removeprefix("if"))
            )
        elif key.startswith("cifar"):
            classes = int(words[0].removeprefix("cifar"))
            got = counts.ldam_counts(classes, 50_000 // classes, words[1], float(words[2]))
        else:
            continue
        np.testing.assert_array_equal(got, expected, err_msg=key)


@kind(r"cifar_lt_ldam_sampling.*")
def long_tail_sampling(vector: Vector) -> None:
    """The very images that the official sampling takes."""
    got = counts.ldam_indices(vector["labels"], vector["counts"])
    np.testing.assert_array_equal(got, vector["selected"])


def blurred(image: torch.Tensor, sigma: float, taps: int) -> torch.Tensor:
    """Blur (B, 3, H, W) with zero padding; a side that is shorter is padded with more zeros."""
    height, width = image.shape[2:]
    side = max(height, width)
    square = F.pad(image, (0, side - width, 0, side - height))
    band = geometry.blur_matrix(torch.full((len(image),), sigma), side, taps, renormalise=False)
    return geometry.separable(square, band, band)[:, :, :height, :width]


def channels_first(array: np.ndarray) -> torch.Tensor:
    """Return (..., H, W, 3) as (B, 3, H, W)."""
    return tensor(array if array.ndim == 4 else array[None]).permute(0, 3, 1, 2)


def same_image(got: torch.Tensor, expected: np.ndarray, name: str, close: float = 2e-6) -> None:
    """Check an image to 2e-6 (values lie in 0..1)."""
    wanted = channels_first(expected).double().numpy()
    np.testing.assert_allclose(got.double().numpy(), wanted, rtol=0, atol=close, err_msg=name)


@kind(r"byol_augment_pieces.*")
def byol_pieces(vector: Vector) -> None:
    """Each colour step of BYOL with its recorded amount, and both blurs."""
    x = channels_first(vector["image"])
    steps = {
        "brightness": colour.brightness,
        "contrast": colour.contrast,
        "saturation": colour.saturation,
        "hue": colour.hue,
    }
    checked = 0
    for name, expected in vector.items():
        kind_of, _, rest = name.partition("_")
        if kind_of in steps:
            amount = torch.tensor([float(rest)], dtype=x.dtype)
            got = steps[kind_of](x, amount, "byol").clamp(0, 1)
        elif "_sigma" in name:
            source = x if kind_of == "blur" else channels_first(vector[f"{kind_of}_image48"])
            taps = 3 if kind_of == "blur" else int(kind_of.removeprefix("blur"))
            got = blurred(source, float(name.split("_sigma")[1]), taps)
        elif kind_of in ("hsv", "gray", "solarize"):
            got = {
                "hsv": colour.rgb_to_hsv,
                "gray": lambda x: colour.grayscale(x).expand_as(x),
                "solarize": colour.solarize,
            }[kind_of](x)
        else:
            assert "image" in name, f"unknown piece {name}"
            continue
        same_image(got, expected, name)
        checked += 1
    assert checked >= 6


@kind(r"blur_k\d+_s.*")
def simclr_blur(vector: Vector) -> None:
    """SimCLR's blur; its kernel argument 22 means 23 taps."""
    taps = 2 * (int(vector["kernel_size"]) // 2) + 1
    got = blurred(channels_first(vector["image"]), float(vector["sigma"]), taps)
    same_image(got, vector["out"], "blur")


@kind(r"grayscale.*")
def grey(vector: Vector) -> None:
    """The released grey weights."""
    x = channels_first(vector["image"])
    same_image(colour.grayscale(x).expand_as(x), vector["out"], "grayscale")


# The shipped resize reads TensorFlow's 1024 kernel entries; the exact kernel is up to 5e-4 off.
RESIZED = 1e-5


@kind(r"bicubic_legacy_.*")
def legacy_bicubic(vector: Vector) -> None:
    """Resize without the half-pixel shift; values may leave 0..1."""
    image = channels_first(vector["image"]).float() / 255
    got = views_legacy.resize_bicubic(image, *vector["out"].shape[:2])
    same_image(got, vector["out"], "bicubic", RESIZED)


@kind(r"eval_preprocess_.*")
def eval_preprocessing(vector: Vector) -> None:
    """Crop, resize and clip, from uint8."""
    got = views_legacy.eval_preprocess(tensor(vector["image"])[None], len(vector["out"]))
    same_image(got, vector["out"], "evaluation", RESIZED)
