"""Data sets by their published counts: what is planned, for a price, where images are not at hand.

The keys of stages on such data are provisional, since a fingerprint needs the images themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

import datasets

from .papers import FOLDER


@cache
def counts() -> dict[str, dict[str, Any]]:
    """Data set -> images of each split, classes, and where the counts are published."""
    path = FOLDER / "datasets.yaml"
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    assert isinstance(found, dict)
    return found


def stand_in(spec: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
    """`data`, shaped like a resolved specification, and `caution`, what to say of it.

    None where the images are at hand, so that something else is wrong, or where nothing is
    published of the data set.
    """
    name = str(spec["source"])
    if name not in counts() or not absent(spec):
        return None
    published = counts()[name]
    images = int(spec.get("size") or published["train"])
    classes = int(published["classes"])
    share, rest = divmod(images, classes)
    data = {
        "source": name, "image_size": spec["image_size"], "size": spec.get("size"), "seed": seed,
        "controls": dict(spec.get("controls") or {}), "options": dict(spec.get("options") or {}),
        "images": images, "classes": classes,
        "class_counts": [share + (i < rest) for i in range(classes)],
        "fingerprint": f"absent: {name} {spec['image_size']} px"}
    return {"data": data, "caution": f"data absent: {name} is planned by its published {images:,} "
                                     "training images; keys are provisional"}


def absent(spec: Mapping[str, Any]) -> bool:
    """Whether the files are not there, or nothing here can read them yet."""
    if spec["source"] not in datasets.SOURCES:
        return True
    fields = {key: spec[key] for key in ("source", "image_size", "options") if key in spec}
    try:
        return datasets.open_source(fields, spec.get("path")).problem() is not None
    except datasets.DatasetError:
        return False
