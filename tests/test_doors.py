"""What the doors share: all problems of a request at once, and where a study lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import arguments, manifest
from harness import list as listing
from harness.config import choices, compose, examine, folder_name
from harness.errors import Problems, UserError
from harness.headline import headline
from harness.plan import Plan, make_plan
from harness.store import Store
from harness.study import Study, resolve_study
from harness.sweep import _requested

ONE = ("grid=curation_gap", "scale=smoke", "grid.methods=[random_init]", "grid.seeds=[0]",
       "grid.conditions=[curated]")


def test_a_wrong_group_hides_no_wrong_key() -> None:
    _, problems = examine(["grid=curation_gp", "data=cifr10", "grid.methds=[x]", "grid.seeds=[0]",
                           "scale.trainig.lr=1", "scale.trainig.epochs=1", "launcher.workrs=2"])
    said = "\n".join(problems)
    for words in ("'curation_gap'", "'cifar10'", "'grid.methods'", "'scale.training'",
                  "'launcher.workers'"):
        assert f"Did you mean {words}?" in said
    assert len(problems) == 5 and "grid.seeds'" not in said.replace("grid.seeds,", "")


def test_what_depends_on_the_wrong_group_is_not_spoken_of() -> None:
    _, problems = examine(["grid=curation_gap", "launcher=slrum", "launcher.partition=gpu",
                           "launcher.workers=2", "launcher.partitoin=gpu"])
    assert len(problems) == 2 and "'slurm'" in problems[0]
    assert "Did you mean 'launcher.partition'?" in problems[1]


def test_an_option_of_another_choice_is_said_to_be_one() -> None:
    _, problems = examine(["grid=curation_gap", "launcher=local", "launcher.partition=gpu"])
    assert problems == ["unknown option 'launcher.partition': it belongs to launcher=slurm"]


def test_keys_values_and_the_launcher_are_judged_together() -> None:
    with pytest.raises(Problems) as error:
        _requested([*ONE, "scale.trainig.lr=1", "grid.evaluations=[knm]", "launcher.workers=no",
                    "wait=perhaps"])
    said = "\n".join(error.value.problems)
    assert len(error.value.problems) == 4, said
    for words in ("'scale.training'", "'knn'", "'workers' must be", "wait: must be true"):
        assert words in said


def test_other_images_have_a_folder_of_their_own() -> None:
    assert {"photos", "cifar10"} <= set(choices("data"))
    folders = [resolve_study(compose([*ONE, *more])).folder.name
               for more in ([], ["data=photos"], ["data=cifar10"], ["grid.name=mine"])]
    assert folders == ["curation_gap-smoke", "curation_gap-smoke", "curation_gap-smoke-cifar10",
                       "mine-smoke"]
    assert resolve_study(compose([*ONE, "data=cifar10"])).named == \
        "grid=curation_gap scale=smoke data=cifar10 results=results"
    with pytest.raises(Problems, match="no name of a folder"):
        resolve_study(compose([*ONE, "grid.name=a/b"]))


def test_every_door_finds_it(tmp_path: Path) -> None:
    names = [folder_name("a", "smoke"), folder_name("a", "smoke", "cifar10")]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_text('{"scale": "smoke"}')
    found = [arguments.find(tmp_path, "a", "smoke", data).name for data in ("", "photos",
                                                                            "cifar10")]
    assert found == [names[0], names[0], names[1]]
    assert arguments.find(tmp_path, names[1], "laptop").name == names[1]
    assert arguments.of_scale(tmp_path, "smoke") == names and not arguments.of_scale(tmp_path, "x")
    with pytest.raises(UserError, match="unknown study 'a-smoke-npz'"):
        arguments.find(tmp_path, "a", "smoke", "npz")


def planned(results: Path, *more: str) -> Plan:
    study: Study = resolve_study(compose([*ONE, f"results={results}", *more]))
    return make_plan(study, Store(results / "store"))


def test_a_page_that_makes_way_for_another_is_told_of(tmp_path: Path) -> None:
    both = planned(tmp_path, "grid.seeds=[0,1]")
    assert len(both.cells) == 4 and manifest.displaced(both, "the whole") == ""
    manifest.write(both, "the whole", {})
    one = planned(tmp_path)
    said = manifest.displaced(one, "a part")
    assert "held another study: 2 of its 4 cells are not in this one" in said
    assert "comes back with: the whole" in said and "grid.name=NAME" in said
    assert manifest.displaced(both, "the whole") == ""
    manifest.write(one, "a part", {})
    assert manifest.displaced(both, "the whole") == ""  # it grows: nothing is lost
    path = one.study.folder / "study.json"
    assert json.loads(path.read_text())["data"] == "photos"
    path.write_text("{")
    assert manifest.displaced(both, "the whole") == ""


def test_a_headline_that_is_not_asked_gives_way_with_a_line() -> None:
    study = resolve_study(compose([*ONE, "grid.evaluations=[clusters,knn]"]))
    assert len(study.notes) == 1 and "the tables lead with knn, balanced" in study.notes[0]
    assert not resolve_study(compose(ONE)).notes
    with pytest.raises(Problems, match=r"grid.headline.evaluation: unknown evaluation 'knm'"):
        resolve_study(compose([*ONE, "grid.headline.evaluation=knm"]))


def test_sources_are_listed_by_group_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    groups = [line for line in lines if line.endswith(":")]
    assert groups == ["nothing to fetch:", "images of your own:", "published:",
                      "published, with boxes, masks or depth:"]
    own = [line.split()[0] for line in lines[lines.index(groups[1]) + 1:lines.index(groups[2]) - 1]]
    published = [line.split()[0] for line in
                 lines[lines.index(groups[2]) + 1:lines.index(groups[3]) - 1]]
    assert own == ["folder", "npz", "parquet", "shards", "webdataset"]
    assert len(published) > 25 and published == sorted(published)


def test_which_evaluation_leads() -> None:
    asked = {"clusters": ("nmi",), "knn": ("balanced", "top1")}
    assert headline(("linear", "balanced"), asked) == ("knn", "balanced")
    assert headline(("clusters", "balanced"), asked) == ("clusters", "balanced")
    assert headline(("linear", "f1"), asked) == ("clusters", "nmi")
    assert headline(("linear", "f1"), {}) == ("linear", "f1")
    assert headline(("linear", "balanced"), {"knn": ()}) == ("knn", "balanced")
