"""Tiny copies of published image sets, each in its real layout.

A builder writes the files below a folder and returns, for each part, the pictures in it as
(class name, number): a picture's colour tells its number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Told = dict[str, list[tuple[str, int]]]
WNIDS = ("n01440764", "n02085620", "n02120505", "n03000684", "n02869837")  # 3rd, 2nd canine


def colour(number: int) -> tuple[int, int, int]:
    """A colour that JPEG keeps apart from those of other numbers below 200."""
    return 20 + number % 6 * 42, 20 + number // 6 % 6 * 42, 20 + number // 36 % 6 * 42


def number_of(pixels: np.ndarray) -> int:
    """The number of a picture, from its mean colour."""
    digits = np.rint((pixels.reshape(-1, 3).mean(axis=0) - 20) / 42).astype(int)
    return int(digits[0] + 6 * digits[1] + 36 * digits[2])


class Painter:
    """Writes pictures with rising numbers and notes which part and class each belongs to."""

    def __init__(self, root: Path) -> None:
        self.root, self.told, self._number = root, {}, 0
        self.told: Told = {}

    def paint(self, part: str, name: str, file: str) -> int:
        """One picture of 12x10 pixels."""
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        number, self._number = self._number, self._number + 1
        Image.new("RGB", (12, 10), colour(number)).save(
            path, **({"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg") else {}))
        self.told.setdefault(part, []).append((name, number))
        return number

    def text(self, file: str, content: str | Iterable[str]) -> None:
        """A text file, from its content or its lines."""
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else "\n".join(content) + "\n")


def food101(p: Painter) -> None:
    for part, each in (("train", 4), ("test", 2)):
        listed: dict[str, list[str]] = {"apple_pie": [], "waffles": []}
        for name, keys in listed.items():
            for number in range(each):
                keys.append(f"{name}/{part}{number}")
                p.paint(part, name, f"food-101/images/{keys[-1]}.jpg")
        p.text(f"food-101/meta/{part}.json", json.dumps(listed))
    p.text("food-101/meta/classes.txt", ("apple_pie", "waffles"))


def birdsnap(p: Painter) -> None:
    rows, test = ["url\tmd5\tpath\tspecies_id"], ["path"]
    for name in ("Acadian_Flycatcher", "Zone-tailed_Hawk"):
        for number in range(5):
            part = "test" if number == 4 else "train"
            p.paint(part, name, f"images/{name}/{number}.jpg")
            rows.append(f"http://x\t0\t{name}/{number}.jpg\t1")
            if part == "test":
                test.append(f"{name}/{number}.jpg")
    p.text("images.txt", rows)
    p.text("test_images.txt", test)


def sun397(p: Painter) -> None:
    names = ("abbey", "airport_terminal", "apse/indoor")
    for part, file in (("train", "Training_01.txt"), ("test", "Testing_01.txt")):
        listed = []
        for name in names:
            for number in range(3):
                path = f"a/{name}/sun_{part}{number}.jpg"
                p.paint(part, name, f"SUN397/{path}")
                listed.append(f"/{path}")
        p.text(f"SUN397/{file}", listed)
    p.text("SUN397/ClassName.txt", [f"/a/{name}" for name in names])


def aircraft(p: Painter) -> None:
    base = "fgvc-aircraft-2013b/data"
    p.text(f"{base}/variants.txt", ("707-320", "Falcon 900"))
    for part, short in (("train", "train"), ("validation", "val"), ("test", "test")):
        listed = []
        for label, name in enumerate(("707-320", "Falcon 900")):
            for number in range(2):
                key = f"{len(part)}{label}{number}"
                p.paint(part, name, f"{base}/images/{key}.jpg")
                listed.append(f"{key} {name}")
        p.text(f"{base}/images_variant_{short}.txt", listed)


def dtd(p: Painter) -> None:
    for part, short in (("train", "train1"), ("validation", "val1"), ("test", "test1")):
        listed = []
        for name in ("banded", "zigzagged"):
            listed.append(f"{name}/{name}_{short}.jpg")
            p.paint(part, name, f"dtd/dtd/images/{listed[-1]}")
        p.text(f"dtd/dtd/labels/{short}.txt", listed)


def pets(p: Painter) -> None:
    for part, short in (("train", "trainval"), ("test", "test")):
        listed = []
        for label, name in enumerate(("Abyssinian", "american_bulldog", "yorkshire_terrier"), 1):
            for number in range(2):
                p.paint(part, name, f"oxford-iiit-pet/images/{name}_{len(part)}{number}.jpg")
                listed.append(f"{name}_{len(part)}{number} {label} 1 {label}")
        p.text(f"oxford-iiit-pet/annotations/{short}.txt", listed)


def savemat(path: Path, content: dict[str, Any]) -> None:
    from scipy.io import savemat as save

    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, content)


def structs(rows: list[dict[str, Any]]) -> np.ndarray:
    """A MATLAB array of structs."""
    out = np.zeros(len(rows), dtype=[(name, object) for name in rows[0]])
    for place, row in enumerate(rows):
        for name, value in row.items():
            out[place][name] = value
    return out


def cars(p: Painter) -> None:
    names = ["AM General Hummer SUV 2000", "smart fortwo Convertible 2012"]
    base = p.root / "stanford_cars"
    savemat(base / "devkit/cars_meta.mat", {"class_names": np.array(names, dtype=object)})
    for part, file in (("train", "devkit/cars_train_annos.mat"),
                       ("test", "cars_test_annos_withlabels.mat")):
        rows = []
        for label, name in enumerate(names, 1):
            for number in range(3):
                rows.append({"fname": f"{label}{number}.jpg", "class": label})
                p.paint(part, name, f"stanford_cars/cars_{part}/{label}{number}.jpg")
        savemat(base / file, {"annotations": structs(rows)})


def flowers(p: Painter) -> None:
    labels, ids = [], {"trnid": [], "valid": [], "tstid": []}
    for part, short in (("train", "trnid"), ("validation", "valid"), ("test", "tstid")):
        for label in (1, 2, 3):
            labels.append(label)
            ids[short].append(len(labels))
            p.paint(part, str(label), f"flowers-102/jpg/image_{len(labels):05d}.jpg")
    base = p.root / "flowers-102"
    savemat(base / "imagelabels.mat", {"labels": np.array(labels, dtype=np.uint8)})
    savemat(base / "setid.mat", {name: np.array(v, dtype=np.uint16) for name, v in ids.items()})


def caltech101(p: Painter) -> None:
    for name in ("BACKGROUND_Google", "accordion"):
        for number in range(1, 34):
            p.paint("all", name, f"caltech101/101_ObjectCategories/{name}/image_{number:04d}.jpg")
    p.text("caltech101/101_ObjectCategories/BACKGROUND_Google/tmp", "no picture")


def voc2007(p: Painter) -> None:
    """Labels, in place of a class name: present ones joined by +, difficult ones after ~."""
    from datasets.sources.transfer_more import VOC_CLASSES

    base = "VOCdevkit/VOC2007"
    for part, short in (("train", "train"), ("validation", "val"), ("test", "test")):
        keys = []
        for number, told in enumerate(("person", "dog+person", "cat~car")):
            keys.append((f"{len(part):03d}{number:03d}", told))
            p.paint(part, told, f"{base}/JPEGImages/{keys[-1][0]}.jpg")
        for name in VOC_CLASSES:
            p.text(f"{base}/ImageSets/Main/{name}_{short}.txt", [
                f"{key} {_sign(name, told):2d}" for key, told in keys])


def _sign(name: str, told: str) -> int:
    present, _, hard = told.partition("~")
    return 1 if name in present.split("+") else 0 if name == hard else -1


def imagenet(p: Painter, prefix: str = "", train: int = 12, test: int = 2) -> None:
    for part, folder, each in (("train", "train", train), ("test", "val", test)):
        for label, name in enumerate(WNIDS):
            for number in range(each):
                stem = (f"{name}_{number}" if part == "train"
                        else f"ILSVRC2012_val_{number * len(WNIDS) + label + 1:08d}")
                p.paint(part, name, f"{prefix}{folder}/{name}/{stem}.JPEG")


def flatten(root: Path) -> list[tuple[str, str]]:
    """Lay an ImageNet's validation part flat; returns (file, wnid) in order of the files."""
    found = sorted((path.name, path.parent.name) for path in (root / "val").glob("*/*.JPEG"))
    for name, wnid in found:
        (root / "val" / wnid / name).rename(root / "val" / name)
    for wnid in WNIDS:
        (root / "val" / wnid).rmdir()
    return found


def places365(p: Painter) -> None:
    for part, folder, each in (("train", "train", 4), ("test", "val", 2)):
        for name in ("airfield", "apartment_building-outdoor"):
            for number in range(each):
                p.paint(part, name, f"{folder}/{name}/{part}{number:08d}.jpg")


def places365_original(p: Painter) -> None:
    names = {"airfield": "/a/airfield", "apartment_building-outdoor":
             "/a/apartment_building/outdoor"}
    train, val = [], []
    for label, (name, folder) in enumerate(names.items()):
        for number in range(4):
            train.append(f"{folder}/{number:08d}.jpg {label}")
            p.paint("train", name, f"data_256_standard{folder}/{number:08d}.jpg")
        val.append(f"Places365_val_{label:08d}.jpg {label}")
        p.paint("test", name, f"val_256/Places365_val_{label:08d}.jpg")
    p.text("categories_places365.txt", [f"{f} {i}" for i, f in enumerate(names.values())])
    p.text("places365_train_standard.txt", train)
    p.text("places365_val.txt", val)


def imagenet_lt(p: Painter) -> None:
    whole = Painter(p.root)
    imagenet(whole, train=8, test=2)
    told = {name: dict.fromkeys(range(8)) for name in WNIDS}
    for label, name in enumerate(sorted(told)):
        for part, numbers in (("train", range(label + 1)), ("validation", range(6, 8))):
            p.told.setdefault(part, []).extend(
                (name, WNIDS.index(name) * 8 + number) for number in numbers)
    p.told["test"] = whole.told["test"]
    _lists(p, "ImageNet_LT", sorted(told), lambda name, n: f"train/{name}/{name}_{n}.JPEG", 8,
           {path.parent.name: [] for path in (p.root / "val").glob("*/*")})


def places_lt(p: Painter) -> None:
    names = ["airfield", "apartment_building-outdoor"]
    whole = Painter(p.root)
    places365_original(whole)
    p.told = {"train": [("airfield", 0), (names[1], 5), (names[1], 6)],
              "validation": [("airfield", 3), (names[1], 8)], "test": whole.told["test"]}
    for part, rows in (("train", ((0, 0), (1, 0), (1, 1))), ("val", ((0, 3), (1, 3)))):
        p.text(f"Places_LT_{part}.txt",
               [f"train/{names[label]}/{n:08d}.jpg {label}" for label, n in rows])
    p.text("Places_LT_test.txt", [f"val/{name}/Places365_val_{label:08d}.jpg {label}"
                                  for label, name in enumerate(names)])


def _lists(p: Painter, stem: str, names: list[str], path: Callable[[str, int], str], each: int,
           held: dict[str, list[str]]) -> None:
    train, val = [], []
    for label, name in enumerate(names):
        train += [f"{path(name, number)} {label}" for number in range(label + 1)]
        val += [f"{path(name, number)} {label}" for number in range(each - 2, each)]
    p.text(f"{stem}_train.txt", train)
    p.text(f"{stem}_val.txt", val)
    p.text(f"{stem}_test.txt", [
        f"val/{name}/{file.name} {label}" for label, name in enumerate(names)
        for file in sorted((p.root / "val" / name).iterdir())])


def tiny_imagenet(p: Painter) -> None:
    base, rows = "tiny-imagenet-200", []
    for name in WNIDS:
        for number in range(4):
            p.paint("train", name, f"{base}/train/{name}/images/{name}_{number}.JPEG")
        p.text(f"{base}/train/{name}/{name}_boxes.txt", "n_0.JPEG\t0\t0\t62\t62\n")
        rows.append(f"val_{len(rows)}.JPEG\t{name}\t0\t0\t62\t62")
        p.paint("test", name, f"{base}/val/images/val_{len(rows) - 1}.JPEG")
    p.text(f"{base}/val/val_annotations.txt", rows)
    p.text(f"{base}/wnids.txt", WNIDS)


def gtsrb(p: Painter) -> None:
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for label in (0, 1):
        name = f"{label:05d}"
        for track in range(2 + label):
            for frame in range(3):
                p.paint("train", name, f"gtsrb/GTSRB/Training/{name}/{track:05d}_{frame:05d}.ppm")
        p.text(f"gtsrb/GTSRB/Training/{name}/GT-{name}.csv", "Filename;Width\n")
        p.paint("test", name, f"gtsrb/GTSRB/Final_Test/Images/{label:05d}.ppm")
        rows.append(f"{label:05d}.ppm;12;10;0;0;11;9;{label}")
    p.text("gtsrb/GT-final_test.csv", rows)


def inat18(p: Painter) -> None:
    names = ("Species b", "Species a", "Species c")
    categories = [{"id": label, "name": name} for label, name in enumerate(names)]
    for part, file, each in (("train", "train2018", 3), ("test", "val2018", 1)):
        images, notes = [], []
        for label, name in enumerate(names):
            for number in range(each):
                key = 100 * len(part) + len(images)
                path = f"train_val2018/Aves/{label}/{part}{number}.jpg"
                p.paint(part, name, path)
                images.append({"id": key, "file_name": path})
                notes.append({"image_id": key, "category_id": label})
        p.text(f"{file}.json", json.dumps(
            {"images": images, "annotations": notes[::-1], "categories": categories}))


def kitchen_hc(p: Painter) -> None:
    for part, folder, each in (("train", "train", 4), ("validation", "val", 1),
                               ("test", "test", 2)):
        for name in ("bottle", "mug"):
            for number in range(each):
                p.paint(part, name, f"{folder}/{name}/{number}.jpg")


BUILDERS: dict[str, Callable[[Painter], None]] = {
    "food101": food101, "birdsnap": birdsnap, "sun397": sun397, "aircraft": aircraft, "dtd": dtd,
    "pets": pets, "cars": cars, "flowers": flowers, "caltech101": caltech101, "voc2007": voc2007,
    "imagenet": imagenet, "places365": places365, "imagenet_lt": imagenet_lt,
    "places_lt": places_lt, "tiny_imagenet": tiny_imagenet, "gtsrb": gtsrb, "inat18": inat18,
    "kitchen_hc": kitchen_hc,
}


def build(name: str, root: Path) -> Told:
    """Write the tiny copy of a source; returns what is in each part."""
    painter = Painter(root)
    BUILDERS[name](painter)
    return painter.told
