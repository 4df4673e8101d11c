"""Detection and instance segmentation: fine-tuning a detector, and scoring it.

Protocol of MoCo, arXiv 1911.05722, section 4.2 and appendix: all layers tuned, BatchNorm over all
images of a batch, random sizes and flips, single-scale test.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import paste_masks_in_image

from datasets.dense import Objects
from datasets.dense.base import need
from datasets.dense.coco import Coco
from datasets.dense.voc import VocDetection
from harness.evaluation.dense import average_precision
from harness.evaluation.dense.average_precision import Found, Truth
from harness.evaluation.dense.detectors import Shape, build
from harness.evaluation.dense.feed import each
from harness.evaluation.dense.loop import Interrupted, Task, final, train
from harness.evaluation.dense.stages import stages
from harness.training.precision import autocast
from harness.training.seeds import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from harness.evaluation.dense.configs import Detection
    from harness.execute import Context

Sample = tuple[Tensor, dict[str, Tensor]]


def run(backbone: nn.Module, reader: Coco | VocDetection, config: Detection, context: Context, *,
        seed: int, identity: str) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Fine-tune a detector on the training part and score the test part.

    Returns the metrics, shares in [0, 1]: ap_bb, ap50_bb, ap75_bb and, with masks, ap_mk, ap50_mk,
    ap75_mk; and the loss of each step. Raises ValueError for a backbone or data set that does not
    fit, else as `loop.train`.
    """
    if config.masks and isinstance(reader, VocDetection):
        raise ValueError("VOC has boxes only: set masks=false")
    body = stages(backbone)
    strides = body.strides
    torch.manual_seed(derive(seed, "init"))
    model = build(body, Shape(config.architecture, len(reader.class_names), config.masks,
                              config.norm, config.freeze_at, config.regions,
                              config.proposals)).to(context.device)
    losses = train(Task(
        model, partial(_losses, model, context.device), partial(sample, reader, config),
        reader.count("train"), config, seed, identity, context))
    found = detect(model, reader, config, context)
    return {**score(reader, found, config), "n_test": len(found), "strides": list(strides),
            "final_loss": final(losses)}, losses


def sample(reader: Coco | VocDetection, config: Detection, number: int,
           generator: np.random.Generator) -> Sample:
    """A training image uint8 (3, H, W), flipped and resized at random, and its target."""
    objects = reader.read("train", number, masks=config.masks)
    side = int(generator.choice(config.train_sides))
    image, boxes, masks = objects.image, objects.boxes, objects.masks
    if generator.random() < 0.5:
        image = image[:, ::-1]
        boxes = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [image.shape[1], 0, image.shape[1], 0]
        masks = None if masks is None else masks[:, :, ::-1]
    height, width = fitted(image.shape[0], image.shape[1], side, config.max_side)
    scale = np.array([width / image.shape[1], height / image.shape[0]] * 2)
    boxes = (boxes * scale).astype(np.float32)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    target = {"boxes": torch.from_numpy(boxes[kept]),
              "labels": torch.from_numpy(objects.labels[kept])}
    if masks is not None:
        target["masks"] = torch.from_numpy(_resized_masks(masks[kept], height, width))
    return resized(image, height, width), target


def fitted(height: int, width: int, side: int, max_side: int) -> tuple[int, int]:
    """The size whose shorter side is `side`, or whose longer one is `max_side` if that is less."""
    scale = min(side / min(height, width), max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(image: NDArray[np.uint8], height: int, width: int) -> Tensor:
    """uint8 (H, W, 3) -> uint8 (3, height, width), bilinear with antialiasing, as PIL does it."""
    made = Image.fromarray(np.ascontiguousarray(image)).resize(
        (width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(made).transpose(2, 0, 1).copy())


def detect(model: GeneralizedRCNN, reader: Coco | VocDetection, config: Detection,
           context: Context) -> list[Found]:
    """The detections in every test image, in the pixels of the file."""
    model.eval()
    found = []
    read = partial(_test_image, reader, config)
    for image, size in each(read, reader.count("test")):
        if context.stop():
            raise Interrupted("stopped while testing the detector")
        with torch.no_grad(), autocast(config.precision, context.device):
            [one] = model([image.to(context.device).float() / 255])
        found.append(_in_file(one, (image.shape[1], image.shape[2]), size))
    return found


def score(reader: Coco | VocDetection, found: list[Found], config: Detection) -> dict[str, float]:
    """The metrics of the detections in all test images, by the data set's own rule."""
    if isinstance(reader, VocDetection):
        truths = [Truth(*reader.objects("test", number)) for number in range(len(found))]
        table = average_precision.voc(truths, found, len(reader.class_names), config.ap_rule)
        return {f"{name}_bb": value for name, value in table.items()}
    kinds = {"bb": "bbox", "mk": "segm"} if config.masks else {"bb": "bbox"}
    categories = [category["id"] for category in reader.categories]
    return {f"{name}_{short}": value for short, kind in kinds.items()
            for name, value in average_precision.coco(
                reader.annotations("test"), reader.ids("test"), categories, found, kind).items()}


def _losses(model: GeneralizedRCNN, device: str, samples: list[Sample]) -> dict[str, Tensor]:
    images = [image.to(device).float() / 255 for image, _ in samples]
    targets = [{name: value.to(device) for name, value in target.items()} for _, target in samples]
    losses: dict[str, Tensor] = model(images, targets)
    return losses


def _test_image(reader: Coco | VocDetection, config: Detection,
                number: int) -> tuple[Tensor, tuple[int, int]]:
    """A test image at its test size, and its size in the file."""
    objects: Objects = reader.read("test", number, masks=False)
    size = (objects.image.shape[0], objects.image.shape[1])
    return resized(objects.image, *fitted(*size, config.test_side, config.max_side)), size


def _in_file(one: dict[str, Tensor], seen: tuple[int, int], size: tuple[int, int]) -> Found:
    """A detector's output on an image of size `seen` in the pixels of the file."""
    scale = torch.tensor([size[1] / seen[1], size[0] / seen[0]] * 2)
    boxes = one["boxes"].float().cpu() * scale
    masks = None
    if "masks" in one:
        masks = _codes(one["masks"].float().cpu(), boxes, size)
    return Found(boxes.numpy(), one["scores"].float().cpu().numpy(),
                 one["labels"].cpu().numpy(), masks)


def _codes(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Run-length codes of masks (n, 1, 28, 28) drawn into their boxes; one image's at a time."""
    encode = need("pycocotools.mask").encode
    codes = []
    for i in range(len(masks)):
        drawn = paste_masks_in_image(masks[i:i + 1], boxes[i:i + 1], size)[0, 0] > 0.5
        codes.append(encode(np.asfortranarray(drawn.numpy().astype(np.uint8))))
    return codes


def _resized_masks(masks: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    made = np.zeros((len(masks), height, width), np.uint8)
    for mask, row in zip(masks, made, strict=True):
        row[:] = np.asarray(Image.fromarray(mask).resize((width, height),
                                                         Image.Resampling.NEAREST))
    return made
