"""Depth from one image: up-projections on a ResNet's features, with the reverse Huber loss.

Laina et al., "Deeper Depth Prediction with Fully Convolutional Residual Networks", arXiv
1606.00373; settings as BYOL, arXiv 2006.07733, appendix D, and DnC, arXiv 2105.08054, appendix F.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from harness.evaluation.dense.feed import each
from harness.evaluation.dense.loop import Interrupted, Task, final, train
from harness.evaluation.dense.segmentation import normalised
from harness.evaluation.dense.stages import Body, freeze, freeze_norms, stages
from harness.training.precision import autocast
from harness.training.seeds import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.dense import Depths
    from datasets.dense.nyu import NyuV2
    from harness.evaluation.dense.configs import Depth
    from harness.execute import Context

NEAREST = 1e-3  # metres; a ratio to a prediction of 0 or less has no meaning
Sample = tuple[Tensor, Tensor]


class UpProjection(nn.Module):
    """Twice the side: unpooling and a 5x5 convolution, a 3x3 one after it, and a projection.

    Unpooling (zeros between the pixels) and then convolving is a transposed convolution of stride
    2: three quarters of the products, those with zeros, are not made (Laina et al., Fig. 3).
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            _unpool(in_channels, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.shortcut = nn.Sequential(_unpool(in_channels, channels), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, 2 H, 2 W)."""
        return nn.functional.relu(self.main(x) + self.shortcut(x))


class DepthNet(nn.Module):
    """Metres at every pixel: (B, 3, H, W) -> (B, H, W)."""

    def __init__(self, body: Body, filters: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        channels = (body.channels[-1], *filters)
        self.ups = nn.Sequential(*(UpProjection(a, b) for a, b in
                                   zip(channels, channels[1:], strict=False)))
        self.last = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images -> metres at their size, bilinear from the decoder's (160 x 128)."""
        metres = self.last(self.ups(self.body(x)[-1]))
        metres = nn.functional.interpolate(metres, x.shape[2:], mode="bilinear",
                                           align_corners=False)
        return metres[:, 0]


def berhu(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean reverse Huber loss () over the known pixels (true > 0) of (B, H, W).

    |d| up to c, (d^2 + c^2) / (2 c) beyond it, c a fifth of the largest |d| of the batch. Laina et
    al., eq. 1.
    """
    known = true > 0
    d = (predicted.float() - true)[known].abs()
    if not len(d):
        return predicted.float().sum() * 0
    c = (0.2 * d.detach().max()).clamp_min(1e-6)
    return torch.where(d <= c, d, (d.square() + c * c) / (2 * c)).mean()


def run(backbone: nn.Module, reader: NyuV2, config: Depth, context: Context, *, seed: int,
        identity: str) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Fine-tune the network on the training part and score the test part.

    Returns the metrics: d1, d2, d3 (share of pixels whose ratio to the truth is below 1.25,
    1.25^2, 1.25^3), rms in metres, rel; and the loss of each step. Raises ValueError for a backbone
    that does not fit, else as `loop.train`.
    """
    body = stages(backbone)
    freeze(body, config.freeze_at)
    if config.norm == "frozen":
        freeze_norms(body)
    torch.manual_seed(derive(seed, "init"))
    model = DepthNet(body, config.filters).to(context.device)
    losses = train(Task(
        model, partial(_losses, model, context.device), partial(sample, reader, config),
        reader.count("train"), config, seed, identity, context))
    return {**score(model, reader, config, context), "n_test": reader.count("test"),
            "final_loss": final(losses)}, losses


def sample(reader: NyuV2, config: Depth, number: int,
           generator: np.random.Generator) -> Sample:
    """A training frame uint8 (3, h, w) and metres (h, w), flipped and coloured at random."""
    image, metres = framed(reader.read("train", number), config)
    if generator.random() < 0.5:
        image, metres = image[:, ::-1], metres[:, ::-1]
    image = coloured(np.ascontiguousarray(image), config, generator)
    return torch.from_numpy(image.transpose(2, 0, 1).copy()), torch.from_numpy(metres.copy())


def framed(frame: Depths, config: Depth) -> tuple[
        NDArray[np.uint8], NDArray[np.float32]]:
    """The central height x width pixels of a frame halved (depth by every second pixel)."""
    image, metres = frame.image, frame.metres
    if config.half:
        size = (image.shape[1] // 2, image.shape[0] // 2)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        metres = metres[::2, ::2][:size[1], :size[0]]
    if image.shape[0] < config.height or image.shape[1] < config.width:
        raise ValueError(f"a frame of {image.shape[0]} x {image.shape[1]} pixels has no crop of "
                         f"{config.height} x {config.width}: lower height and width, or half=false")
    top, left = (image.shape[0] - config.height) // 2, (image.shape[1] - config.width) // 2
    window = slice(top, top + config.height), slice(left, left + config.width)
    return image[window], metres[window]


def coloured(image: NDArray[np.uint8], config: Depth,
             generator: np.random.Generator) -> NDArray[np.uint8]:
    """uint8 (h, w, 3) with hue, saturation and brightness shifted, or turned grey, at random."""
    hue, saturation, brightness = (
        generator.uniform(-limit, limit)
        for limit in (config.hue, config.saturation, config.brightness))
    grey = generator.random() < config.grey
    hsv = np.array(Image.fromarray(image).convert("HSV")).astype(np.int32)
    hsv[..., 0] = (hsv[..., 0] + round(256 * hue)) % 256
    hsv[..., 1] = 0 if grey else np.clip(hsv[..., 1] * (1 + saturation), 0, 255)
    made = np.array(Image.fromarray(hsv.astype(np.uint8), "HSV").convert("RGB")).astype(np.int32)
    return np.clip(made + round(255 * brightness), 0, 255).astype(np.uint8)


def score(model: nn.Module, reader: NyuV2, config: Depth,
          context: Context) -> dict[str, float]:
    """The metrics over all known pixels of all test frames together."""
    model.eval()
    sums = np.zeros(6)
    for frame in each(partial(reader.read, "test"), reader.count("test")):
        if context.stop():
            raise Interrupted("stopped while testing the depths")
        image, metres = framed(frame, config)
        with torch.no_grad(), autocast(config.precision, context.device):
            x = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
            predicted = model(normalised(x, context.device))[0].float().cpu().numpy()
        sums += errors(predicted, metres)
    if not sums[0]:
        raise ValueError("no test frame has a pixel of known depth: check the depth files")
    d1, d2, d3, square, rel = (float(value) for value in sums[1:] / sums[0])
    return {"d1": d1, "d2": d2, "d3": d3, "rms": square**0.5, "rel": rel}


def errors(predicted: NDArray[np.float32], metres: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sums over the known pixels of (h, w): 1, ratio < 1.25, 1.25^2, 1.25^3, square, relative."""
    true = metres[metres > 0].astype(np.float64)
    guess = np.maximum(predicted[metres > 0].astype(np.float64), NEAREST)
    ratio = np.maximum(guess / true, true / guess)
    return np.array([len(true), *((ratio < 1.25**k).sum() for k in (1, 2, 3)),
                     ((guess - true)**2).sum(), (np.abs(guess - true) / true).sum()])


def _unpool(in_channels: int, channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, channels, 5, 2, 2, output_padding=1, bias=False)


def _losses(model: nn.Module, device: str, samples: list[Sample]) -> dict[str, Tensor]:
    images = normalised(torch.stack([image for image, _ in samples]), device)
    return {"loss": berhu(model(images), torch.stack([m for _, m in samples]).to(device))}
