"""Published image sets on disk: pixels, classes, splits and origins from tiny copies in the real
layouts; what is absent, half-downloaded or laid out otherwise is one line with the remedy.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from source_layouts import (
    BUILDERS,
    WNIDS,
    Painter,
    Told,
    build,
    flatten,
    imagenet,
    number_of,
    places365_original,
    savemat,
    structs,
)

import datasets
from datasets import lists, multilabel
from datasets.sources import SOURCES, listings
from datasets.sources.files import Files
from datasets.sources.wnids import IMAGENET100

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("CURATION_GAP_SHARED", ROOT.parent / "shared"))
TRANSFER = {"food101", "cifar10", "cifar100", "birdsnap", "sun397", "cars", "aircraft", "voc2007",
            "dtd", "pets", "caltech101", "flowers"}


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Told]]:
    """Every tiny copy, written once; tests that change one take a copy of it."""
    root = tmp_path_factory.mktemp("published")
    return {name: (root / name, build(name, root / name)) for name in BUILDERS}


def opened(name: str, root: Path, **options: Any) -> Any:
    return datasets.open_source({"source": name, "path": str(root), "image_size": 8,
                                 "options": {"partial": True, **options}})


def content(source: Any, split: str) -> list[tuple[str, int]]:
    """(class name, number) of every image of a split, as `Painter` tells them."""
    pool = source.pool(split)
    pixels = source.pixels(split, np.arange(len(pool)))
    assert pixels.shape == (len(pool), 8, 8, 3) and pixels.dtype == np.uint8
    return sorted((_class(source, label), number_of(image))
                  for label, image in zip(pool.labels, pixels, strict=True))


def _class(source: Any, label: int) -> str:
    if not source.multilabel:
        return source.class_names[label]
    signs = multilabel.unpack(np.array([label]), 20)[0]
    names = {sign: [source.class_names[c] for c in np.flatnonzero(signs == sign)]
             for sign in (0, 1)}
    return "~".join(["+".join(names[1]), *names[0]])


def problems(spec: dict[str, Any]) -> list[str]:
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.resolve(spec)
    assert caught.value.problems and all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


def test_there_is_a_copy_of_every_source_of_files() -> None:
    filed = {name for name, cls in SOURCES.items() if issubclass(cls, Files)}
    assert len(filed) >= 20 and filed - set(BUILDERS) == {"imagenet100", "canine"}
    assert set(SOURCES) > TRANSFER and len(TRANSFER) == 12


@pytest.mark.parametrize("name", sorted(set(BUILDERS) - {"caltech101"}))
def test_pixels_classes_and_parts(copies: dict[str, tuple[Path, Told]], name: str) -> None:
    root, told = copies[name]
    source = opened(name, root, holdout=False)
    assert source.problem() is None
    assert set(source.parts()) == set(told) and sum(map(len, told.values())) >= 6
    for part in source.parts():
        assert content(source, part) == sorted(told[part]), part
        ids = np.arange(len(told[part]))
        names = source.names(part)
        assert len(set(names)) == len(names) == len(source.encoded(part, ids))
    resolved = datasets.resolve({"source": name, "path": str(root), "image_size": 8,
                                 "options": {"partial": True}})
    assert resolved["options"]["partial"] and str(root) not in json.dumps(resolved)
    built = datasets.build(resolved, "test", root)
    assert len(built) == len(told["test"])


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_what_is_missing_is_one_line_with_the_tree_and_the_command(
        copies: dict[str, tuple[Path, Told]], tmp_path: Path, name: str) -> None:
    spec = {"source": name, "path": str(tmp_path / "none"), "image_size": 8}
    cls = SOURCES[name]
    absent, = problems(spec)
    assert "finds no" in absent and cls.layout in absent and cls.fetch_hint in absent
    assert str(tmp_path / "none") in absent
    if name != "kitchen_hc":  # its counts were not seen in a publication
        few, = problems({**spec, "path": str(copies[name][0])})
        assert "data.options.partial=true" in few and cls.fetch_hint in few
    root = tmp_path / "copy"
    shutil.copytree(copies[name][0], root)
    needed = cls(path=root).needs()[-1]
    (root / needed).rename(tmp_path / "elsewhere")
    moved, = problems({**spec, "path": str(root), "options": {"partial": True}})
    assert "finds no" in moved and cls.layout in moved


@pytest.mark.parametrize("name", sorted(set(BUILDERS) & TRANSFER | {"inat18", "places_lt"}))
def test_a_listed_image_that_is_not_there_is_named(
        copies: dict[str, tuple[Path, Told]], tmp_path: Path, name: str) -> None:
    if name == "caltech101":
        pytest.skip("no list says what should be there: the number of images tells")
    shutil.copytree(copies[name][0], tmp_path / "copy")
    source: Any = SOURCES[name](path=tmp_path / "copy")
    victim = source.listing("train").files[0].decode()
    (tmp_path / "copy" / victim).write_bytes(b"")
    whole = SOURCES[name](path=tmp_path / "copy", image_size=9)  # not the one listed above
    line = whole.problem()
    assert line and f"lacks 1 of {len(source.listing('train').files)} training images" in line
    assert victim in line
    rest: Any = SOURCES[name](path=tmp_path / "copy", image_size=9, partial=True)
    assert rest.problem() is None
    assert len(rest.listing("train").files) == len(source.listing("train").files) - 1


def test_a_damaged_image_and_a_damaged_list_are_named(
        copies: dict[str, tuple[Path, Told]], tmp_path: Path) -> None:
    shutil.copytree(copies["dtd"][0], tmp_path / "dtd")
    source: Any = opened("dtd", tmp_path / "dtd")
    victim = tmp_path / "dtd" / source.listing("train").files[1].decode()
    victim.write_bytes(victim.read_bytes()[:150])
    with pytest.raises(datasets.DatasetError, match=rf"1 of 2 files .*{victim.name} \("):
        source.pixels("train", np.arange(2))
    for name, file, damage in (("cars", "stanford_cars/devkit/cars_train_annos.mat", "no matrix"),
                               ("inat18", "val2018.json", '{"images": ['),
                               ("pets", "oxford-iiit-pet/annotations/test.txt", "Fox_1 1 1 1"),
                               ("birdsnap", "images.txt", "a\tb\n")):
        shutil.copytree(copies[name][0], tmp_path / name)
        (tmp_path / name / file).write_text(damage)
        line = opened(name, tmp_path / name).problem()
        assert line and f"cannot read {tmp_path / name}" in line and "\n" not in line, name


def test_validation_is_held_out_by_class_where_none_is_published(
        copies: dict[str, tuple[Path, Told]]) -> None:
    told = copies["caltech101"][1]["all"]
    source = opened("caltech101", copies["caltech101"][0])
    train, held, test = (content(source, split) for split in datasets.SPLITS)
    assert sorted(train + held + test) == sorted(told)
    per_class = [sum(name == "accordion" for name, _ in part) for part in (train, held, test)]
    assert per_class == [25, 5, 3]
    pets = opened("pets", copies["pets"][0])
    assert len(pets.pool("train")) + len(pets.pool("validation")) == 6
    assert SOURCES["imagenet"].validation_share * 1_281_167 / 1000 == pytest.approx(10)


def test_the_protocol_of_the_transfer_sets() -> None:
    per_class = {"aircraft", "pets", "caltech101", "flowers"}
    for name in TRANSFER:
        wanted = "map11" if name == "voc2007" else "mean_per_class" if name in per_class else "top1"
        assert SOURCES[name].metric == wanted, name
        assert SOURCES[name].multilabel == (name == "voc2007")
    sizes = {name: SOURCES[name].official for name in TRANSFER if hasattr(SOURCES[name],
                                                                          "official")}
    # Kornblith et al. 2019, Table 2: training (with validation) and test images
    published = {"food101": (75_750, 25_250), "birdsnap": (47_386, 2_443),
                 "sun397": (19_850, 19_850), "cars": (8_144, 8_041), "aircraft": (6_667, 3_333),
                 "voc2007": (5_011, 4_952), "dtd": (3_760, 1_880), "pets": (3_680, 3_669),
                 "caltech101": (3_060, 6_084), "flowers": (2_040, 6_149)}
    assert set(sizes) == set(published)
    for name, (train, test) in published.items():
        found = sizes[name]
        assert found["train"][0] + found.get("validation", (0,))[0] == train, name
        assert found["test"][0] == test, name


# --- ImageNet


def test_imagenet_in_its_other_layouts(tmp_path: Path) -> None:
    painter = Painter(tmp_path / "flat")
    imagenet(painter)
    told = sorted(painter.told["test"])
    flat = flatten(tmp_path / "flat")
    assert "val/ is flat" in str(opened("imagenet", tmp_path / "flat").problem())
    rows = [f"{name.removesuffix('.JPEG')},{wnid} 1 2 3 4" for name, wnid in flat]
    (tmp_path / "flat" / "LOC_val_solution.csv").write_text(
        "\n".join(["ImageId,PredictionString", *rows]))
    assert content(opened("imagenet", tmp_path / "flat", holdout=False), "test") == told
    # the development kit counts classes from 1 in an order of its own
    (tmp_path / "flat" / "LOC_val_solution.csv").unlink()
    kit = tmp_path / "flat" / "ILSVRC2012_devkit_t12" / "data"
    order = [*WNIDS[::-1]]
    savemat(kit / "meta.mat", {"synsets": structs(
        [{"ILSVRC2012_ID": number, "WNID": wnid} for number, wnid in enumerate(order, 1)])})
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(
        "\n".join(str(order.index(wnid) + 1) for _, wnid in flat))
    source = opened("imagenet", tmp_path / "flat", holdout=False)
    source = type(source)(path=tmp_path / "flat", image_size=8, partial=True, holdout=True)
    assert content(source, "test") == told
    kaggle = Painter(tmp_path / "kaggle")
    imagenet(kaggle, "ILSVRC/Data/CLS-LOC/")
    assert content(opened("imagenet", tmp_path / "kaggle", holdout=False), "train") == sorted(
        kaggle.told["train"])
    # the same files have the same fingerprint wherever they lie
    imagenet(Painter(tmp_path / "plain"))
    assert (opened("imagenet", tmp_path / "kaggle").fingerprint("train")
            == opened("imagenet", tmp_path / "plain").fingerprint("train"))


def test_imagenet_half_unpacked(copies: dict[str, tuple[Path, Told]], tmp_path: Path) -> None:
    shutil.copytree(copies["imagenet"][0], tmp_path / "some")
    (tmp_path / "some" / "train" / "n09999999.tar").touch()
    line, = problems({"source": "imagenet", "path": str(tmp_path / "some")})
    assert "finds 5 of its 1000 classes" in line and "1 .tar files that are not unpacked" in line


def test_subsets_of_imagenet_by_class(copies: dict[str, tuple[Path, Told]]) -> None:
    root, told = copies["imagenet"]
    found = {name: opened(name, root, holdout=False) for name in ("imagenet100", "canine")}
    assert found["canine"].class_names == ("n02085620", "n02120505")
    assert found["imagenet100"].class_names == ("n02085620", "n02869837")
    assert content(found["canine"], "train") == sorted(
        row for row in told["train"] if row[0] in ("n02085620", "n02120505"))
    assert len(IMAGENET100) == 100
    line, = problems({"source": "canine", "path": str(root)})
    assert "finds 2 of its 130 classes" in line
    official = SHARED / "data" / "lists" / "cld" / "imagenet100.txt"
    if not official.is_file():
        pytest.skip(f"official list {official} is not there; set CURATION_GAP_SHARED")
    assert set(official.read_text().split()) == IMAGENET100


def test_long_tailed_lists_may_lie_elsewhere(copies: dict[str, tuple[Path, Told]], tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "imagenet"
    shutil.copytree(copies["imagenet_lt"][0], root)
    (tmp_path / "lists" / "imagenet_lt").mkdir(parents=True)
    for path in root.glob("*.txt"):
        path.rename(tmp_path / "lists" / "imagenet_lt" / path.name)
    monkeypatch.delenv(lists.PLACES, raising=False)
    assert f"finds no list ImageNet_LT_train.txt in {root}" in problems(
        {"source": "imagenet_lt", "path": str(root)})[0]
    monkeypatch.setenv(lists.PLACES, str(tmp_path / "lists"))
    source = opened("imagenet_lt", root)
    assert source.problem() is None and source.counts("train").tolist() == [1, 2, 3, 4, 5]
    flatten(root)
    again: Any = SOURCES["imagenet_lt"](path=Path(f"{root}/."), image_size=8, partial=True)
    assert len(again.listing("test").files) == 10


def test_places_in_the_original_layout(tmp_path: Path) -> None:
    painter = Painter(tmp_path)
    places365_original(painter)
    source = opened("places365", tmp_path, holdout=False)
    assert content(source, "train") == sorted(painter.told["train"])
    assert content(source, "test") == sorted(painter.told["test"])
    assert source.class_names[1] == "apartment_building-outdoor"


# --- tracks


def test_gtsrb_tracks_are_origins(copies: dict[str, tuple[Path, Told]]) -> None:
    source = opened("gtsrb", copies["gtsrb"][0])
    train, held = source.pool("train"), source.pool("validation")
    assert set(train.origin) | set(held.origin) == {0, 1, 1000, 1001, 1002}
    assert not set(train.origin) & set(held.origin) and len(held) > 0


def test_gtsrb_from_real_signs_in_the_published_layout(tmp_path: Path) -> None:
    folder = SHARED / "data" / "gtsrb32"
    if not (folder / "gtsrb32_subset_meta.npz").is_file():
        pytest.skip(f"no GTSRB subset in {folder}; set CURATION_GAP_SHARED")
    with np.load(folder / "gtsrb32_subset_meta.npz", allow_pickle=False) as meta:
        told = {name: meta[name] for name in meta.files}
    signs = {part: _tiles(folder / f"gtsrb32_{part}_subset_lossless.webp")
             for part in ("train", "test")}
    some = np.flatnonzero(told["frame_train"] % 6 == 0)  # five frames of each track
    signs["train"], signs["test"] = signs["train"][some], signs["test"][:200]
    told = {name: values[some] if name.endswith("_train") else values[:200]
            for name, values in told.items()}
    for row, label in enumerate(told["y_train"]):
        name = f"{told['track_train'][row]:05d}_{told['frame_train'][row]:05d}.ppm"
        _ppm(tmp_path / f"gtsrb/GTSRB/Training/{label:05d}" / name, signs["train"][row])
    rows = ["Filename;ClassId"]
    for row, label in enumerate(told["y_test"]):
        _ppm(tmp_path / f"gtsrb/GTSRB/Final_Test/Images/{row:05d}.ppm", signs["test"][row])
        rows.append(f"{row:05d}.ppm;{label}")
    (tmp_path / "gtsrb" / "GT-final_test.csv").write_text("\n".join(rows))
    assert "has 850 of 26,640 or 39,209 training images" in problems(
        {"source": "gtsrb", "path": str(tmp_path)})[0]
    resolved = datasets.resolve({"source": "gtsrb", "path": str(tmp_path),
                                 "options": {"partial": True}})
    train, held, test = (datasets.build(resolved, split, tmp_path) for split in datasets.SPLITS)
    assert len(train) + len(held) == 850 and len(set(train.origin) | set(held.origin)) == 170
    assert not set(train.origin) & set(held.origin) and len(set(train.labels)) == 43
    np.testing.assert_array_equal(test.pixels, signs["test"][:len(test)])
    np.testing.assert_array_equal(test.labels, told["y_test"])


def _tiles(path: Path) -> np.ndarray:
    sheet = np.asarray(Image.open(path).convert("RGB"))
    rows, columns = sheet.shape[0] // 32, sheet.shape[1] // 32
    return sheet.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)


def _ppm(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"P6\n32 32\n255\n" + pixels.tobytes())


# --- several classes an image


def test_labels_of_several_classes_fit_into_a_column() -> None:
    signs = np.random.default_rng(0).integers(-1, 2, (50, 31))
    packed = multilabel.pack(signs)
    assert packed.dtype == np.int64 and packed.shape == (50,) and (packed >= 0).all()
    np.testing.assert_array_equal(multilabel.unpack(packed, 31), signs)
    np.testing.assert_array_equal(multilabel.counts(packed, 31), (signs == 1).sum(axis=0))
    with pytest.raises(ValueError, match="at most 31"):
        multilabel.pack(np.ones((1, 32)))


def test_voc_counts_images_not_objects(copies: dict[str, tuple[Path, Told]]) -> None:
    root = copies["voc2007"][0]
    resolved = datasets.resolve({"source": "voc2007", "path": str(root),
                                 "options": {"partial": True}})
    assert resolved["images"] == 3 and sum(resolved["class_counts"]) == 4
    assert "unlabelled" not in resolved
    line, = problems({"source": "voc2007", "path": str(root), "size": 2,
                      "options": {"partial": True}})
    assert "several classes" in line


# --- listings


def test_a_long_listing_is_kept_until_a_folder_changes(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(listings.PLACE, str(tmp_path / "cache"))
    monkeypatch.setattr(listings, "LONG", 3)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "data" / name / f"{number}.jpg").write_bytes(b"x" * (number + 1))
    walked = []

    def make() -> listings.Listing:
        walked.append(1)
        return listings.of_folders(tmp_path / "data", ["a", "b"])

    def listed() -> listings.Listing:
        return listings.kept("key", tmp_path / "data", [tmp_path / "data"], make)

    listed()
    assert len(walked) == 1 and not (tmp_path / "cache").exists()  # a copy may be under way
    monkeypatch.setattr(listings, "SETTLED", -1.0)
    first, again = listed(), listed()
    assert len(walked) == 2
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert first.sizes.tolist() == [1, 2, 1, 2] and first.labels.tolist() == [0, 0, 1, 1]
    (tmp_path / "data" / "a" / "2.jpg").write_bytes(b"xxx")
    assert len(listed().files) == 5 and len(walked) == 3
    kept, = (tmp_path / "cache" / "listings").iterdir()
    kept.write_bytes(b"damaged")
    assert len(listed().files) == 5 and len(walked) == 4
