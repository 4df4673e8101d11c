"""1 % and 10 % of ImageNet's labels: SimCLR's lists, found, planned, keyed and kept to."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from source_layouts import Painter, imagenet
from test_evaluation_protocols import plan_of, problems_of
from torch import Tensor

import datasets
from datasets import semi as subsets
from datasets.messages import DatasetError
from harness.config import compose
from harness.evaluation.semi import Config, labelled_part
from harness.evaluation.splits import Features
from harness.evaluation.subject import Subject
from harness.plan import make_plan
from harness.store import Store
from harness.study import resolve_study

SPEC = {"source": "imagenet", "image_size": 16, "options": {"partial": True}, "seed": 0}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagenet")
    imagenet(Painter(folder), train=100)  # one of each class is held out
    return folder


@pytest.fixture
def places(root: Path) -> Iterator[Path]:
    """The folder; lists that a test puts into it are taken away."""
    yield root
    for path in root.glob("*percent*"):
        path.unlink()


def resolved(root: Path) -> dict[str, Any]:
    return datasets.resolve({**SPEC, "path": str(root)})


def names(root: Path, split: str) -> list[str]:
    source = datasets.open_source(SPEC, root)
    return source.names(split) or []  # type: ignore[arg-type]


def listing(root: Path) -> list[str]:
    """Three of the training images of each class, one of them held out, without folders."""
    found = []
    for wnid in sorted({name.partition("/")[0] for name in names(root, "train")}):
        held, own = ([n for n in names(root, split) if n.startswith(wnid)]
                     for split in ("validation", "train"))
        found += [own[0], own[-1], held[0]]
    return [name.partition("/")[2] for name in found]


def subject(root: Path, per_class: int = 3) -> Subject:
    """The images as numbers: each one's place in its split, 1000 more in validation."""
    spec = resolved(root)

    def split(name: str, start: int) -> tuple[Tensor, Tensor]:
        labels = datasets.build(spec, name, root).labels  # type: ignore[arg-type]
        return torch.arange(len(labels)) + start, torch.from_numpy(labels)

    class Context:
        def path_of(self, data: object) -> str:
            return str(root)

    return Subject(None, lambda: Features.of({"train": split("train", 0),  # type: ignore[arg-type]
                                              "validation": split("validation", 1000),
                                              "test": split("test", 2000)}),
                   spec, "top1", "pooled", 0, "fp32", "key", root,
                   Context())  # type: ignore[arg-type]


def test_the_list_is_trained_on_as_published_and_nothing_of_it_is_chosen_on(places: Path) -> None:
    wanted = listing(places)
    (places / "1percent.txt").write_text("\n".join(wanted) + "\n")
    own, held = subsets.listed(resolved(places), places, file="1percent.txt")
    train, validation = names(places, "train"), names(places, "validation")
    there = [train[i] for i in own] + [validation[i] for i in held]
    assert sorted(name.partition("/")[2] for name in there) == sorted(wanted)
    assert len(own) == 10 and len(held) == 5
    # the held out image of the last class stays: without it no setting could be chosen
    (places / "1percent.txt").write_text("\n".join(wanted[:-1]) + "\n")
    found = labelled_part(subject(places), Config(file="1percent.txt", share=0.01))
    assert len(found.train) == 14 and found.validation.features.tolist() == [1004]
    assert sorted(found.train.features.tolist()) == [*own.tolist(), 1000, 1001, 1002, 1003]
    assert torch.equal(found.train.labels.bincount(), torch.tensor([3, 3, 3, 3, 2]))


def test_a_list_of_everything_or_of_other_images_is_refused(places: Path) -> None:
    path = places / "1percent.txt"
    path.write_text("\n".join(listing(places)) + "\n")
    with pytest.raises(ValueError, match="takes every validation image"):
        labelled_part(subject(places), Config(file="1percent.txt"))
    path.write_text("\n".join([*listing(places), "n01440764_100.JPEG"]) + "\n")
    with pytest.raises(DatasetError, match="names 1 images of 16 that source 'imagenet' lacks: "
                                           "complete it, or draw by seed"):
        labelled_part(subject(places), Config(file="1percent.txt"))
    path.unlink()
    with pytest.raises(DatasetError, match=r"1percent.txt is not in .*: put it there, or name its "
                                           r"folder in \$CURATION_GAP_LISTS"):
        labelled_part(subject(places), Config(file="1percent.txt"))


def stage(*arguments: str) -> Any:
    return plan_of(*arguments).cells[0].stage


def test_the_list_is_in_the_protocol_and_in_the_key(places: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    asked = (f"targets.imagenet={{path: {places}, options: {{partial: true}}}}",
             "grid.evaluations=[semi_1@imagenet]")
    line = problems_of(*asked)
    assert len(line.splitlines()) == 1 and "evaluation 'semi_1@imagenet'" in line
    assert f"1percent.txt is not in {places}: put it there" in line
    assert "scale.evaluations.semi_1.draw=seed" in line
    (places / "1percent.txt").write_text("a_1.JPEG\n")
    first = stage(*asked)
    assert first.params["options"]["file"] == "1percent.txt" and len(first.params["list"]) == 64
    assert "draw" not in first.params["options"] and first.params["options"]["share"] == 0.01
    protocol, = plan_of(*asked).study.evaluations.values()
    assert protocol.label == "1 % of labels on imagenet, published list"
    (places / "1percent.txt").write_text("b_1.JPEG\n")
    assert stage(*asked).key != first.key, "another list"
    (places / "1percent.txt").unlink()
    (tmp_path / "1percent.txt.xz").write_bytes(lzma.compress(b"a_1.JPEG\n"))
    monkeypatch.setenv("CURATION_GAP_LISTS", str(tmp_path))
    assert stage(*asked).key == first.key, "compressed, and in another place"
    seeded = stage(*asked, "scale.evaluations.semi_1.draw=seed")
    assert seeded.params["options"]["draw"] == "seed" and not seeded.params["options"]["file"]
    assert "list" not in seeded.params


@pytest.mark.parametrize(("evaluation", "more"), [
    ("semi_1", ()), ("few_50@imagenet", ()), ("semi_100@imagenet", ()),
    ("semi_1@imagenet", ("targets.imagenet.size=30",))])
def test_everywhere_else_the_part_is_drawn_by_seed(root: Path, evaluation: str,
                                                   more: tuple[str, ...]) -> None:
    found = stage(f"targets.imagenet={{path: {root}, options: {{partial: true}}, size: null}}",
                  f"grid.evaluations=[{evaluation}]", *more).params
    assert not found["options"]["file"] and "list" not in found and "draw" not in found["options"]


def test_lists_of_simclr_are_known_by_source_and_share() -> None:
    assert subsets.published(SPEC, 0.01) == "1percent.txt"
    assert subsets.published(SPEC, 0.1) == "10percent.txt" and not subsets.published(SPEC, 0.2)
    assert not subsets.published({**SPEC, "controls": {"long_tail": {}}}, 0.1)
    assert not subsets.published({**SPEC, "source": "imagenet100"}, 0.1)


def test_the_price_of_a_published_table_needs_no_list(tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CURATION_GAP_LISTS", raising=False)
    asked = ("table=dnc/table9", "scale=paper")
    study = resolve_study(compose([*asked, "dry_run=true"]))
    plan = make_plan(replace(study, results=tmp_path), Store(tmp_path / "store"))
    said = [line for line in plan.cautions if line.startswith("list absent")]
    assert len(said) == 2 and "1percent.txt of 'imagenet' is needed to run 'semi_1@imagenet'" in \
        said[0]
    found = {s.params["options"]["file"]: s.params["list"] for s in plan.stages
             if s.kind == "evaluate" and s.params["options"].get("file")}
    assert found == {f: f"absent: {f}" for f in ("1percent.txt", "10percent.txt")}
