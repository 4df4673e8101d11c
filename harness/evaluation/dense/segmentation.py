"""Semantic segmentation: a fully convolutional network on a dilated ResNet.

MoCo, arXiv 1911.05722, appendix: conv5 with dilation 2 and stride 1, two 3x3 convolutions of 256
channels with dilation 6, BatchNorm and ReLU, a 1x1 classifier; total stride 16 (FCN-16s).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from datasets.dense import IGNORED
from datasets.views import MEAN, STD
from harness.evaluation.dense.feed import each
from harness.evaluation.dense.loop import Interrupted, Task, final, train
from harness.evaluation.dense.stages import Body, dilate, freeze, freeze_norms, stages
from harness.training.precision import autocast
from harness.training.seeds import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.dense.voc import VocSegmentation
    from harness.evaluation.dense.configs import Segmentation
    from harness.execute import Context

WIDTH, DILATION = 256, 6
Sample = tuple[Tensor, Tensor]


class FCN(nn.Module):
    """Class scores of every pixel: (B, 3, H, W) -> (B, C, H, W)."""

    def __init__(self, body: Body, classes: int) -> None:
        super().__init__()
        dilate(body.stages[-1])
        self.body = body
        layers: list[nn.Module] = []
        channels = body.channels[-1]
        for _ in range(2):
            layers += [nn.Conv2d(channels, WIDTH, 3, padding=DILATION, dilation=DILATION,
                                 bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)]
            channels = WIDTH
        self.head = nn.Sequential(*layers, nn.Conv2d(WIDTH, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images -> logits at their size, bilinear from the head's."""
        logits = self.head(self.body(x)[-1])
        return nn.functional.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=False)


def run(backbone: nn.Module, reader: VocSegmentation, config: Segmentation,
        context: Context, *, seed: int, identity: str,
        ) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Fine-tune the network on the training part and score the test part.

    Returns the metrics, shares in [0, 1]: miou (mean over classes of intersection over union),
    pixel_accuracy; and the loss of each step. Raises ValueError for a backbone that does not fit,
    else as `loop.train`.
    """
    body = stages(backbone)
    freeze(body, config.freeze_at)
    if config.norm == "frozen":
        freeze_norms(body)
    torch.manual_seed(derive(seed, "init"))
    model = FCN(body, len(reader.class_names)).to(context.device)
    losses = train(Task(
        model, partial(_losses, model, context.device), partial(sample, reader, config),
        reader.count("train"), config, seed, identity, context))
    table = confusion(model, reader, config, context)
    return {"miou": float(np.nanmean(class_iou(table))), "per_class_iou": _listed(class_iou(table)),
            "pixel_accuracy": float(np.diag(table).sum() / max(table.sum(), 1)),
            "n_test": reader.count("test"),
            "final_loss": final(losses)}, losses


def sample(reader: VocSegmentation, config: Segmentation, number: int,
           generator: np.random.Generator) -> Sample:
    """A training crop uint8 (3, S, S), scaled, cropped and flipped at random, and its classes."""
    found = reader.read("train", number)
    scale = generator.uniform(config.scale_min, config.scale_max)
    height, width = (max(1, round(side * scale)) for side in found.classes.shape)
    image = np.asarray(Image.fromarray(found.image).resize(
        (width, height), Image.Resampling.BILINEAR))
    classes = np.asarray(Image.fromarray(found.classes).resize(
        (width, height), Image.Resampling.NEAREST))
    top, left = (int(generator.integers(0, max(side - config.crop, 0) + 1))
                 for side in (height, width))
    window = slice(top, top + config.crop), slice(left, left + config.crop)
    image, classes = padded(image[window], classes[window], config.crop)
    if generator.random() < 0.5:
        image, classes = image[:, ::-1], classes[:, ::-1]
    return (torch.from_numpy(image.transpose(2, 0, 1).copy()),
            torch.from_numpy(classes.astype(np.int64)))


def padded(image: NDArray[np.uint8], classes: NDArray[np.uint8],
           side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both at least side x side: filled by the mean colour below and right, and ignored there."""
    shape = tuple(max(side, s) for s in classes.shape)
    whole = np.empty((*shape, 3), np.uint8)
    whole[:] = np.round(255 * np.array(MEAN)).astype(np.uint8)
    labels = np.full(shape, IGNORED, np.uint8)
    whole[:image.shape[0], :image.shape[1]] = image
    labels[:classes.shape[0], :classes.shape[1]] = classes
    return whole, labels


def confusion(model: nn.Module, reader: VocSegmentation,
              config: Segmentation, context: Context) -> NDArray[np.int64]:
    """Pixels of each class (row) by predicted class (column), int64 (C, C), of all test images."""
    count = len(reader.class_names)
    table = np.zeros((count, count), np.int64)
    model.eval()
    for found in each(partial(reader.read, "test"), reader.count("test")):
        if context.stop():
            raise Interrupted("stopped while testing the segmentation")
        image, classes = found.image, found.classes
        if config.test_crop is not None:
            window = tuple(_centre(side, config.test_crop) for side in classes.shape)
            image, classes = image[window], classes[window]
        with torch.no_grad(), autocast(config.precision, context.device):
            x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
            predicted = model(normalised(x, context.device)).argmax(1)[0].cpu().numpy()
        known = classes != IGNORED
        pairs = count * classes[known].astype(np.int64) + predicted[known]
        table += np.bincount(pairs, minlength=count**2).reshape(count, count)
    return table


def class_iou(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class, NaN for one that neither occurs nor is predicted."""
    right = np.diag(table).astype(np.float64)
    union = table.sum(0) + table.sum(1) - right
    return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)


def normalised(images: Tensor, device: str) -> Tensor:
    """uint8 (B, 3, H, W) -> float32 on the device, by the mean and spread that encoders saw."""
    mean = torch.tensor(MEAN, device=device).view(3, 1, 1)
    std = torch.tensor(STD, device=device).view(3, 1, 1)
    return (images.to(device).float() / 255 - mean) / std


def _losses(model: nn.Module, device: str, samples: list[Sample]) -> dict[str, Tensor]:
    images = normalised(torch.stack([image for image, _ in samples]), device)
    classes = torch.stack([classes for _, classes in samples]).to(device)
    # a batch without a known pixel would be 0 / 0
    total = nn.functional.cross_entropy(model(images).float(), classes, ignore_index=IGNORED,
                                        reduction="sum")
    return {"loss": total / (classes != IGNORED).sum().clamp_min(1)}


def _centre(side: int, crop: int) -> slice:
    start = max(side - crop, 0) // 2
    return slice(start, start + crop)


def _listed(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
