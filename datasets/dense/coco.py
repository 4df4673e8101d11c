"""COCO 2017: boxes and masks of 80 classes, in the official layout, by pycocotools."""

from __future__ import annotations

import contextlib
import functools
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.dense.base import Objects, Reader, need, open_image, register

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from datasets.dense.base import Part

FOLDERS = {"train": "train2017", "test": "val2017"}


@register("coco")
@dataclass(frozen=True)
class Coco(Reader):
    """Trained on train2017 without the images that have no objects, scored on val2017.

    ("Test" is val2017, as in MoCo and DnC: the labels of COCO's own test set are not public.)
    """

    title = "COCO 2017 (118,287 + 5,000 images)"
    licence = "annotations CC BY 4.0; images under Flickr's terms"
    citation = "Lin et al., arXiv 1405.0312"
    layout = "PATH/annotations/instances_{train,val}2017.json, PATH/{train,val}2017/*.jpg"
    download = ("for f in zips/train2017 zips/val2017 annotations/annotations_trainval2017; do "
                "curl -O http://images.cocodataset.org/$f.zip; done; unzip '*.zip'")
    size = "20 GB"
    task = "detection"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The categories in the order of their ids."""
        return tuple(category["name"] for category in self.categories)

    @property
    def categories(self) -> list[dict[str, Any]]:
        """COCO's categories, sorted by id; label l is categories[l - 1]."""
        annotations = self.annotations("test")
        return [annotations.cats[number] for number in sorted(annotations.cats)]

    def problem(self) -> str | None:
        """One line if a file or folder is missing."""
        if self.path is None:
            return self.missing("needs a folder")
        for part, folder in FOLDERS.items():
            for place in (self._json(part), self.path / folder):
                if not place.exists():
                    return self.missing(f"finds no {place}")
        return None

    def annotations(self, part: Part) -> Any:
        """The pycocotools COCO object of a part, read once."""
        path = self._json(part)
        return _load(path, os.stat(path).st_mtime_ns)

    def ids(self, part: Part) -> list[int]:
        """COCO's image ids, sorted; in training only images that have an object."""
        annotations = self.annotations(part)
        if part == "test":
            return sorted(annotations.imgs)
        return _with_objects(annotations)

    def count(self, part: Part) -> int:
        """Images of a part."""
        return len(self.ids(part))

    def listing(self, part: Part) -> list[str]:
        """File name, number of objects and sum of their areas, image by image."""
        annotations = self.annotations(part)
        lines = []
        for number in self.ids(part):
            found = annotations.imgToAnns[number]
            area = sum(float(entry["area"]) for entry in found)
            lines.append(f"{annotations.imgs[number]['file_name']} {len(found)} {area:.3f}")
        return lines

    def read(self, part: Part, number: int, masks: bool = True) -> Objects:
        """The image at a place of `ids(part)`; in training without its crowds."""
        annotations = self.annotations(part)
        identity = self.ids(part)[number]
        entry = annotations.imgs[identity]
        image = open_image(self.root / FOLDERS[part] / entry["file_name"])
        found = [a for a in annotations.imgToAnns[identity]
                 if part == "test" or _trainable(a)]
        label = {category["id"]: i for i, category in enumerate(self.categories, 1)}
        corner = np.array([a["bbox"] for a in found], dtype=np.float32).reshape(-1, 4)
        boxes = np.concatenate([corner[:, :2], corner[:, :2] + corner[:, 2:]], 1)
        height, width = image.shape[:2]
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
        drawn = np.zeros((0, height, width), np.uint8)
        if masks and found:
            drawn = np.stack([decode(annotations.annToRLE(a)) for a in found])
        return Objects(
            image, boxes, np.array([label[a["category_id"]] for a in found], np.int64),
            np.array([bool(a.get("iscrowd", 0)) for a in found], bool),
            drawn if masks else None, number)

    def _json(self, part: str) -> Path:
        return self.root / "annotations" / f"instances_{FOLDERS[part]}.json"


def decode(code: dict[str, Any]) -> NDArray[np.uint8]:
    """The mask uint8 (H, W) of a compressed run-length code: the same as pycocotools' decode.

    That one warns under NumPy 2 with every mask, and warnings cannot be silenced in one thread.
    Source of the format: cocodataset/cocoapi, common/maskApi.c rleFrString.
    """
    lengths: list[int] = []
    value = shift = 0
    counts = code["counts"]
    for byte in counts.encode() if isinstance(counts, str) else counts:
        digit = byte - 48
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        value -= (digit & 16) << (shift - 4)  # the sign
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    flat = np.repeat(np.arange(len(lengths), dtype=np.uint8) % 2, lengths)
    height, width = code["size"]
    return flat.reshape(width, height).T


def _trainable(annotation: dict[str, Any]) -> bool:
    """No crowd, and a box that has an inside."""
    _, _, width, height = annotation["bbox"]
    return not annotation.get("iscrowd", 0) and width > 0 and height > 0


@functools.lru_cache(maxsize=4)
def _load(path: Path, changed: int) -> Any:
    coco = need("pycocotools.coco")
    with contextlib.redirect_stdout(io.StringIO()):  # it narrates
        return coco.COCO(str(path))


@functools.lru_cache(maxsize=4)
def _with_objects(annotations: Any) -> list[int]:
    return [number for number in sorted(annotations.imgs)
            if any(_trainable(a) for a in annotations.imgToAnns[number])]
