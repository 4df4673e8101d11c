"""Readers of COCO, VOC and NYU: what is drawn is what is read; what is missing is one line."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import dense_fixtures as fixtures
import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError, dense
from datasets.dense import READERS, open_reader, resolve
from datasets.dense.coco import Coco, decode
from datasets.dense.nyu import NyuV2
from datasets.dense.voc import VocDetection, VocSegmentation


def test_every_reader_says_what_it_expects_and_how_to_fetch_it(tmp_path: Path) -> None:
    assert set(READERS) == {"coco", "voc_detection", "voc_segmentation", "nyu_v2"}
    for name, cls in READERS.items():
        for path in (None, tmp_path):
            with pytest.raises(DatasetError) as error:
                open_reader(name, path)
            [line] = error.value.problems
            assert line.startswith(f"source '{name}'") and "\n" not in line
            assert cls.layout in line and "fetch it by: " in line
        assert dense.describe(name)["layout"] == cls.layout


def test_names_and_options_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="unknown dense dataset 'cocoa'. Did you mean 'coco'"):
        open_reader("cocoa", tmp_path)
    with pytest.raises(DatasetError, match="unknown option 'split'. Available: train_set"):
        open_reader("voc_segmentation", tmp_path, {"split": "val"})
    with pytest.raises(DatasetError, match="train_set must be 'train' or 'train_aug'"):
        open_reader("voc_segmentation", tmp_path, {"train_set": "trainval"})
    with pytest.raises(DatasetError, match="'coco' takes no size"):
        resolve({"source": "coco", "path": str(tmp_path), "size": 4})


def test_without_the_extra_the_message_names_it(tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    reader = open_reader("coco", fixtures.write_coco(tmp_path, 2, 2))
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(DatasetError, match=r"need pycocotools: .*pip install 'curation-gap\[dense"):
        reader.count("train")


def test_coco_boxes_masks_and_labels_are_those_drawn(tmp_path: Path) -> None:
    reader = open_reader("coco", fixtures.write_coco(tmp_path, 4, 2))
    assert isinstance(reader, Coco)
    assert reader.class_names == ("box", "disc") and reader.count("train") == 4
    rng = np.random.default_rng(1)
    for number in range(4):
        image, objects = fixtures.scene(rng)
        found = reader.read("train", number)
        assert abs(found.image.astype(int) - image).mean() < 12  # JPEG of noise
        assert found.labels.tolist() == [1 + label for label, _ in objects]
        assert found.masks is not None and found.masks.dtype == np.uint8
        for (_, mask), drawn, box in zip(objects, found.masks, found.boxes, strict=True):
            assert (drawn == mask).all() and tuple(box) == fixtures.corners(mask)
        assert not found.ignored.any()


def test_coco_trains_on_images_with_objects_and_without_crowds(tmp_path: Path) -> None:
    path = fixtures.write_coco(tmp_path, 4, 2) / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        if entry["image_id"] == 100:
            entry["iscrowd"] = 1
        if entry["image_id"] == 101:
            entry["bbox"][2] = 0
    path.write_text(json.dumps(content))
    reader = open_reader("coco", tmp_path)
    assert isinstance(reader, Coco) and reader.ids("train") == [102, 103]


def test_run_lengths_are_decoded_as_by_pycocotools() -> None:
    from pycocotools import mask as codec

    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        for shape in ((1, 1), (7, 5), (200, 333)):
            mask = (rng.random(shape) < share).astype(np.uint8)
            code = codec.encode(np.asfortranarray(mask))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = codec.decode(code)
            assert (decode(code) == mask).all() and (expected == mask).all()
            assert (decode({**code, "counts": code["counts"].decode()}) == mask).all()


def test_voc_boxes_are_half_open_from_zero(tmp_path: Path) -> None:
    reader = open_reader("voc_detection", fixtures.write_voc(tmp_path, 4, 2))
    assert isinstance(reader, VocDetection)
    assert (reader.count("train"), reader.count("test")) == (4, 2)
    rng = np.random.default_rng(2)
    for number in range(4):
        _, objects = fixtures.scene(rng)
        found = reader.read("train", number)
        assert found.labels.tolist() == [(3, 8)[label] for label, _ in objects]
        assert reader.class_names[found.labels[0] - 1] in ("bird", "cat")
        assert [tuple(box) for box in found.boxes] == [fixtures.corners(m) for _, m in objects]
    with pytest.raises(DatasetError, match="boxes only"):
        reader.read("train", 0, masks=True)
    first = tmp_path / "VOCdevkit/VOC2007/Annotations/trainval_000000.xml"
    first.write_text("<annotation>")
    with pytest.raises(DatasetError, match="no annotation of VOC"):
        reader.objects("train", 0)


def test_voc_class_maps_and_the_augmented_list(tmp_path: Path) -> None:
    fixtures.write_voc(tmp_path, 12, 2)
    reader = open_reader("voc_segmentation", tmp_path, {"train_set": "train"})
    assert isinstance(reader, VocSegmentation)
    assert (reader.count("train"), reader.count("test")) == (4, 2)
    found = reader.read("train", 0)
    assert set(np.unique(found.classes)) <= {0, 3, 8, 255} and 255 in found.classes
    assert found.classes.shape == found.image.shape[:2] and reader.class_names[3] == "bird"
    with pytest.raises(DatasetError, match="SegmentationClassAug"):
        open_reader("voc_segmentation", tmp_path)
    base = tmp_path / "VOCdevkit/VOC2012"
    (base / "SegmentationClass").rename(base / "SegmentationClassAug")
    (base / "SegmentationClass").symlink_to(base / "SegmentationClassAug")
    lists = base / "ImageSets/Segmentation"
    (lists / "trainaug.txt").write_text(((lists / "train.txt").read_text() + "\n") * 2)
    assert open_reader("voc_segmentation", tmp_path).count("train") == 8


def test_the_three_layouts_of_nyu_read_alike(tmp_path: Path) -> None:
    import h5py
    from scipy.io import savemat

    pictures = open_reader("nyu_v2", fixtures.write_nyu(tmp_path / "png", 3, 2))
    assert isinstance(pictures, NyuV2)
    frames = {part: [pictures.read(part, i) for i in range(count)]  # type: ignore[arg-type]
              for part, count in (("train", 3), ("test", 2))}
    assert frames["train"][0].metres[0].max() == 0 and frames["train"][0].metres[1:].min() >= 1
    for part, found in frames.items():
        for i, frame in enumerate(found):
            place = tmp_path / "h5" / part / "kitchen" / f"{i:05d}.h5"
            place.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(place, "w") as file:
                file["rgb"], file["depth"] = frame.image.transpose(2, 0, 1), frame.metres
    order = [frames["test"][0], *frames["train"], frames["test"][1]]
    (tmp_path / "mat").mkdir()
    with h5py.File(tmp_path / "mat/nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = np.stack([frame.image.transpose(2, 1, 0) for frame in order])
        file["depths"] = np.stack([frame.metres.T for frame in order])
    savemat(tmp_path / "mat/splits.mat", {"trainNdxs": [[2], [3], [4]], "testNdxs": [[1], [5]]})
    for layout in ("h5", "mat"):
        reader = open_reader("nyu_v2", tmp_path / layout)
        assert isinstance(reader, NyuV2)
        for part, found in frames.items():
            assert reader.count(part) == len(found)  # type: ignore[arg-type]
            for i, frame in enumerate(found):
                read = reader.read(part, i)  # type: ignore[arg-type]
                assert (read.image == frame.image).all() and (read.metres == frame.metres).all()


def test_the_fingerprint_covers_annotations_and_not_the_place(tmp_path: Path) -> None:
    first = resolve({"source": "voc_detection", "path": str(fixtures.write_voc(tmp_path / "a"))})
    second = resolve({"source": "voc_detection", "path": str(fixtures.write_voc(tmp_path / "b"))})
    assert first == second and first["images"] == 12 and first["classes"] == 20
    path = next((tmp_path / "b/VOCdevkit/VOC2007/Annotations").iterdir())
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    changed = resolve({"source": "voc_detection", "path": str(tmp_path / "b")})
    assert changed["fingerprint"] != first["fingerprint"]


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    reader = open_reader("nyu_v2", fixtures.write_nyu(tmp_path, 2, 2))
    assert isinstance(reader, NyuV2)
    (tmp_path / "train/rgb/000.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match="000.png: not a readable image"):
        reader.read("train", 0)
    Image.new("L", (8, 8)).save(tmp_path / "train/rgb/001.png")
    assert reader.read("train", 1).image.shape == (8, 8, 3)
