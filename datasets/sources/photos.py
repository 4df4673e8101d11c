"""Colour patches cut from the photographs that scikit-image and scikit-learn ship. No download.

The label is "which photograph": a self-contained demonstration, not evidence about objects.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from datasets.duplicates import shifts
from datasets.sources.base import Source, digest, register
from datasets.types import Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split

SIDE = 32  # window side, pixels of the picture as it is
TRAIN_SHARE = 0.65  # of the columns, from the left
VALIDATION_SHARE = 0.2  # of the grid rows, from the bottom of the training columns
TRAIN_STRIDE = 8
TEST_STRIDE = 16
TEST_WINDOWS = 72  # per picture; 'text', the smallest picture, has just these
VALIDATION_WINDOWS = 17  # per picture; again all that 'text' has
REACH = 6  # near duplicates move by at most this many pixels
REVISION = 1  # of the cutting rules

SKIMAGE = ("astronaut.png brick.png camera.png cell.png chelsea.png clock_motion.png coffee.png "
           "coins.png grass.png gravel.png hubble_deep_field.jpg ihc.png moon.png "
           "motorcycle_left.png retina.jpg rocket.jpg text.png").split()
SKLEARN = ["china.jpg", "flower.jpg"]
# Alphabetical, so that colour and grey pictures are mixed along a long tail.
PICTURES = tuple(sorted([("skimage", "data", name) for name in SKIMAGE]
                        + [("sklearn", "datasets/images", name) for name in SKLEARN],
                        key=lambda row: row[2]))
NAMES = tuple(name.split(".")[0] for _, _, name in PICTURES)
KINDS = {"texture": ("brick", "grass", "gravel"), "microscope": ("cell", "ihc", "retina"),
         "sky": ("hubble_deep_field", "moon", "rocket"),
         "person_or_animal": ("astronaut", "camera", "chelsea"),
         "plant_or_building": ("china", "flower"),
         "thing": ("clock_motion", "coffee", "coins", "motorcycle_left", "text")}
DISTRIBUTION = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


class Windows(NamedTuple):
    """Candidate windows of one split: picture, top row, left column, tier; int64 (n,) each."""

    picture: NDArray[np.int64]
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    tier: NDArray[np.int64]


class Region(NamedTuple):
    """Half-open rows and columns of a picture, in pixels."""

    top: int
    bottom: int
    left: int
    right: int


def region(height: int, width: int, split: Split) -> Region:
    """The part of a picture that a split may cut windows from; the three never share a pixel."""
    cut = int(width * TRAIN_SHARE)
    rows = height // SIDE
    border = (rows - math.ceil(VALIDATION_SHARE * rows)) * SIDE
    if split == "test":
        return Region(0, height, cut, width)
    if split == "validation":
        return Region(border, rows * SIDE, 0, cut)
    return Region(0, border, 0, cut)


@register("photos")
@dataclass(frozen=True)
class Photos(Source):
    """32x32 windows of 19 photographs; see the constants above for the cutting rules."""

    title = "Windows of the photographs in scikit-image and scikit-learn"
    licence = "per picture: see README.txt in skimage/data and sklearn/datasets/images"
    citation = "van der Walt et al., scikit-image, PeerJ 2014; Pedregosa et al., scikit-learn, 2011"
    layout = "nothing to prepare: the pictures are inside the two installed packages"
    size = "19 photographs; 47 k training, 323 validation and 1,368 test windows of 32x32"
    native_side = SIDE
    revision = REVISION

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the photographs."""
        return NAMES

    def coarse_names(self) -> tuple[str, ...]:
        """What kind of picture a photograph is."""
        return tuple(kind for name in NAMES for kind, names in KINDS.items() if name in names)

    def pool(self, split: Split) -> Pool:
        """Windows of a split, by picture, non-overlapping ones (tier 0) first."""
        windows = _windows(split)
        n = len(windows.picture)
        return Pool(windows.picture, windows.picture, windows.tier, np.arange(n))

    def counts(self, split: Split) -> NDArray[np.int64]:
        """Windows per photograph, int64 (19,); declared for the pictures known when written."""
        if split == "test":
            return np.full(len(NAMES), TEST_WINDOWS)
        if split == "validation":
            return np.full(len(NAMES), VALIDATION_WINDOWS)
        if _pictures_digest() == KNOWN_PICTURES:
            return np.array(TRAIN_WINDOWS)
        return super().counts(split)

    def grid_counts(self) -> NDArray[np.int64]:
        """Training windows per photograph that overlap no other, int64 (19,)."""
        if _pictures_digest() == KNOWN_PICTURES:
            return np.array(GRID_WINDOWS)
        pool = self.pool("train")
        return np.bincount(pool.labels[pool.tier == 0], minlength=len(NAMES))

    def pixels(self, split: Split, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, 32, 32, 3) at these positions of the pool."""
        return self.render(split, index, np.zeros_like(index), 0)

    def render(self, split: Split, index: NDArray[np.int64], copy: NDArray[np.int64],
               seed: int) -> NDArray[np.uint8]:
        """Windows; a near duplicate is the window moved by up to 6 px inside its own region."""
        windows, pictures = _windows(split), _pictures()
        picture, y, x = windows.picture[index], windows.y[index], windows.x[index]
        areas = [region(image.shape[0], image.shape[1], split) for image in pictures]
        bounds = np.array(areas)[picture]
        room = np.stack([y - bounds[:, 0], bounds[:, 1] - SIDE - y,
                         x - bounds[:, 2], bounds[:, 3] - SIDE - x], axis=1)
        move = shifts(np.clip(room, 0, REACH), index, copy, seed)
        out = np.empty((len(index), SIDE, SIDE, 3), dtype=np.uint8)
        for number, image in enumerate(pictures):
            rows = np.flatnonzero(picture == number)
            views = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE), axis=(0, 1))
            at = views[y[rows] + move[rows, 0], x[rows] + move[rows, 1]]
            out[rows] = at.transpose(0, 2, 3, 1)
        return out

    def fingerprint(self, split: Split) -> str:
        """SHA-256 over the picture files' bytes in order and the revision of the cutting rules."""
        return digest("photos", REVISION, split, _pictures_digest())

    def problem(self) -> str | None:
        """One line if a picture is missing or another window side is asked for."""
        if self.image_size not in (None, SIDE):
            return (f"source 'photos' cuts windows of {SIDE}x{SIDE} pixels: set "
                    f"data.image_size={SIDE} (it is {self.image_size})")
        try:
            for row in PICTURES:
                _locate(*row)
        except FileNotFoundError as error:
            return str(error)
        return None


@functools.cache
def _locate(package: str, folder: str, name: str) -> Path:
    """Path of a picture inside an installed package; the package itself is not imported."""
    # importing sklearn costs 1.4 s, find_spec 1 ms
    spec = importlib.util.find_spec(package)
    roots = list(spec.submodule_search_locations or []) if spec else []
    for root in roots:
        path = Path(root, folder, name)
        if path.is_file():
            return path
    wanted = DISTRIBUTION[package]
    state = f"the installed {wanted} lacks {folder}/{name}" if roots else f"{wanted} is missing"
    raise FileNotFoundError(f"source 'photos': {state}; install the version that this project "
                            f"pins: pip install --force-reinstall {wanted}")


@functools.cache
def _pictures_digest() -> str:
    """SHA-256 over the bytes of the picture files, in order."""
    return digest(*(_locate(*row).read_bytes() for row in PICTURES))


@functools.cache
def _pictures() -> tuple[NDArray[np.uint8], ...]:
    """The decoded pictures, uint8 (H, W, 3), grey ones repeated to 3 channels; 19 MB in all."""
    found = []
    for row in PICTURES:
        with Image.open(_locate(*row)) as image:
            found.append(np.asarray(image.convert("RGB")))
    return tuple(found)


@functools.cache
def _windows(split: Split) -> Windows:
    """All candidate windows of a split, by picture; fixed pseudo-random order in each tier."""
    parts = [_cut(number, image, split) for number, image in enumerate(_pictures())]
    return Windows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _cut(number: int, image: NDArray[np.uint8], split: Split) -> Windows:
    """Candidate windows of one picture: the 32-px grid (tier 0), then the finer lattice (1)."""
    area = region(image.shape[0], image.shape[1], split)
    stride = TRAIN_STRIDE if split == "train" else TEST_STRIDE
    y, x = (part.ravel() for part in np.meshgrid(
        np.arange(area.top, area.bottom - SIDE + 1, stride),
        np.arange(area.left, area.right - SIDE + 1, stride), indexing="ij"))
    tier = (((y - area.top) % SIDE > 0) | ((x - area.left) % SIDE > 0)).astype(np.int64)
    # The black rim of the retina is hundreds of identical windows: not distinct images.
    views = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE), axis=(0, 1))[y, x]
    varied = (views != views[..., :1, :1]).any(axis=(1, 2, 3))
    y, x, tier = y[varied], x[varied], tier[varied]
    order = np.random.default_rng([REVISION, number]).permutation(len(y))
    order = order[np.argsort(tier[order], kind="stable")]
    if split != "train":
        order = order[:TEST_WINDOWS if split == "test" else VALIDATION_WINDOWS]
    return Windows(np.full(len(order), number), y[order], x[order], tier[order])


# Declared, so that planning decodes nothing; a test compares them with the pictures.
KNOWN_PICTURES = "f89bf6090b61f3206360f2d11a7d1f8e2ab930ced013b0cbbcb23d803f778bfd"
TRAIN_WINDOWS = (1710, 1710, 1710, 2501, 825, 1813, 725, 1485, 700, 1813, 1710, 1710, 6318, 1710,
                 1710, 2565, 14349, 1813, 429)
GRID_WINDOWS = (120, 120, 120, 176, 63, 130, 56, 108, 49, 130, 120, 120, 420, 120, 120, 180, 922,
                130, 36)
