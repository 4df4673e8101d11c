"""What every reader of images with boxes, masks, class maps or depths answers."""

from __future__ import annotations

import dataclasses
import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
from PIL import Image

from datasets.messages import DatasetError, unknown
from datasets.sources.base import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

Part = Literal["train", "test"]
PARTS: tuple[Part, Part] = ("train", "test")
READERS: dict[str, type[Reader]] = {}
IGNORED = 255  # class of a pixel that is neither learnt nor scored
R = TypeVar("R", bound="type[Reader]")


@dataclasses.dataclass(frozen=True)
class Objects:
    """An image and what is in it.

    image uint8 (H, W, 3); boxes float32 (n, 4), x0 y0 x1 y1 in pixels, half open; labels int64
    (n,), 1..C; masks uint8 (n, H, W) of 0 and 1, or None; ignored bool (n,): not scored (a crowd of
    COCO, a difficult object of VOC); number: the image's place in its part.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    masks: NDArray[np.uint8] | None
    number: int


@dataclasses.dataclass(frozen=True)
class Classes:
    """image uint8 (H, W, 3) and the class of each pixel, uint8 (H, W), `IGNORED` where unknown."""

    image: NDArray[np.uint8]
    classes: NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Depths:
    """image uint8 (H, W, 3) and metres float32 (H, W), 0 where unknown."""

    image: NDArray[np.uint8]
    metres: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Reader(ABC):
    """Images with dense annotations in their official layout, read one at a time.

    Sub-classes are frozen dataclasses; their fields beside `path` are the options. `path` is where
    the files lie and is never hashed.
    """

    path: Path | None = None

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    layout: ClassVar[str] = ""
    download: ClassVar[str] = ""
    size: ClassVar[str] = ""
    task: ClassVar[str] = ""
    revision: ClassVar[int] = 1

    @classmethod
    def options(cls) -> dict[str, dataclasses.Field[Any]]:
        """The options of this reader beside path, by name."""
        return {f.name: f for f in dataclasses.fields(cls) if f.name != "path"}

    @property
    def root(self) -> Path:
        """The folder. Raises DatasetError if none was named."""
        if self.path is None:
            raise DatasetError([self.missing("needs a folder")])
        return self.path

    def missing(self, what: str) -> str:
        """The one line for data that are not there: expected tree and how to fetch it."""
        return f"source '{self.name}' {what}: expected {self.layout}; fetch it by: {self.download}"

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """One name per label, in order; label 1 is the first (0 is the background)."""

    @abstractmethod
    def problem(self) -> str | None:
        """One line if the data are not there or the options contradict each other, else None."""

    @abstractmethod
    def count(self, part: Part) -> int:
        """Images of a part."""

    @abstractmethod
    def listing(self, part: Part) -> list[str]:
        """What names each image of a part, in order: the content of `fingerprint`."""

    def fingerprint(self, part: Part) -> str:
        """SHA-256 (hex) over the images' names and annotations' identity; not over pixels.

        COCO alone has 19 GB of JPEG that have never changed under one name.
        """
        return digest(self.name, self.revision, part, *self.class_names, *self.listing(part))


def register(name: str) -> Callable[[R], R]:
    """Class decorator: makes a reader known under `name`."""

    def add(cls: R) -> R:
        assert name not in READERS, f"reader '{name}' is defined twice"
        cls.name = name
        READERS[name] = cls
        return cls

    return add


def open_reader(name: str, path: str | Path | None,
                options: Mapping[str, Any] | None = None) -> Reader:
    """The reader `name` over the files at `path`. Raises DatasetError with what is wrong."""
    if name not in READERS:
        raise DatasetError([unknown("dense dataset", name, READERS)])
    cls = READERS[name]
    wrong = [f"source '{name}': {unknown('option', option, cls.options())}"
             for option in options or {} if option not in cls.options()]
    if wrong:
        raise DatasetError(wrong)
    reader = cls(path=None if path is None else Path(path).expanduser(), **(options or {}))
    problem = reader.problem()
    if problem is not None:
        raise DatasetError([problem])
    return reader


def resolve(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A dense data set's specification, checked and with its fingerprint, as `datasets.resolve`.

    Images keep their sizes and no control applies. Decodes no image. Raises DatasetError.
    """
    name = str(spec.get("source"))
    wrong = [f"source '{name}' takes no {key}: images with dense annotations are used as they are"
             for key in ("size", "controls") if spec.get(key)]
    if wrong:
        raise DatasetError(wrong)
    reader = open_reader(name, spec.get("path"), spec.get("options"))
    counts = {part: reader.count(part) for part in PARTS}
    if empty := [part for part, count in counts.items() if not count]:
        raise DatasetError([f"source '{name}' has no {' and no '.join(empty)} images at "
                            f"{reader.path}: check its lists"])
    return {
        "source": name, "image_size": None, "size": None, "seed": 0, "controls": {},
        "options": {option: getattr(reader, option) for option in reader.options()},
        "images": counts["train"], "class_counts": [], "classes": len(reader.class_names),
        "fingerprint": digest(*(reader.fingerprint(part) for part in PARTS))}


def describe(name: str) -> dict[str, Any]:
    """What there is to know about a reader: title, size, licence, layout, how to fetch it."""
    cls = READERS[name]
    return {"name": name, "title": cls.title, "task": cls.task, "size": cls.size,
            "licence": cls.licence, "citation": cls.citation, "layout": cls.layout,
            "fetch": cls.download, "options": {key: {"type": str(f.type), "default": f.default}
                                               for key, f in cls.options().items()}}


def open_image(path: Path) -> NDArray[np.uint8]:
    """The decoded file as uint8 (H, W, 3). Raises DatasetError for one that cannot be read."""
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise DatasetError([f"{path}: not a readable image ({error}): fetch it again"]) from None


def need(module: str) -> Any:
    """An optional module. Raises DatasetError naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DatasetError([f"dense datasets need {module.split('.')[0]}: install the extra by "
                            "pip install 'curation-gap[dense]'"]) from None
