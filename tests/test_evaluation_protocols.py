"""Evaluation ids NAME[@TARGET] in a plan: targets, protocols, layers, metrics and their keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config import compose
from harness.errors import Problems
from harness.evaluation import evaluations
from harness.evaluation.linear import penalties
from harness.evaluation.measures import Measure, declare, measure
from harness.manifest import manifest
from harness.plan import Plan, make_plan
from harness.stages import in_order
from harness.store import Store
from harness.study import resolve_study

ONE = ("scale=smoke", "grid.methods=[moclr]", "grid.conditions=[curated]", "grid.seeds=[0]")
# as they were before evaluations had targets: artifacts of then are found; linear's since top5
KEYS = {"linear": "48ca7b1be132daf75644d31b8f3d57fedb325a0694a31552b0828eda611a6f2a",
        "knn": "cd3f72127de992e70b49360e8fdecc4b2766cd062b6e29c210a16fb6bcf0bbc2"}
ENCODER = "f0458f3b77b990276e8d5430f3157f4d7d42465f8ee1b4641b6f32374fffe2bf"
FEATURES = "b4c5b28562a94196932f5a7e3a5e86f2fea50617264fd18598cf7d19fdf935c0"


def plan_of(*arguments: str, grid: str = "curation_gap") -> Plan:
    study = resolve_study(compose([f"grid={grid}", *ONE, *arguments]))
    return make_plan(study, Store(Path("nowhere")))


def problems_of(*arguments: str) -> str:
    with pytest.raises(Problems) as caught:
        plan_of(*arguments)
    return str(caught.value)


def stages(plan: Plan, kind: str) -> list[Any]:
    return [stage for stage in plan.stages if stage.kind == kind]


def test_keys_of_linear_and_knn_are_what_they_were() -> None:
    plan = plan_of()
    assert {cell.evaluation: cell.stage.key for cell in plan.cells} == KEYS
    assert [s.key for s in stages(plan, "pretrain")] == [ENCODER]
    assert [s.key for s in stages(plan, "features")] == [FEATURES]


def test_one_extraction_for_each_encoder_data_set_and_part_of_the_network() -> None:
    plan = plan_of("grid.evaluations=[linear,knn,clusters,diagnostics,clusters_hidden,"
                   "clusters_output,linear@digits,knn@digits]")
    found = [(s.params["data"]["source"], s.params.get("layers")) for s in stages(plan, "features")]
    assert sorted(found, key=str) == [("digits", None), ("photos", None),
                                      ("photos", ["hidden", "output"])]
    assert len(stages(plan, "pretrain")) == 1 and len(stages(plan, "evaluate")) == 8


def test_the_papers_linear_protocols_have_names() -> None:
    names = ("linear_transfer", "linear_dnc", "linear_dnc_yfcc", "linear_fnc", "linear_moco",
             "linear_cld", "linear_sdclr")
    found = plan_of(f"grid.evaluations=[{','.join(names)}]").study.evaluations
    assert list(found) == list(names)
    transfer = found["linear_transfer"]
    assert transfer.evaluation.name == "linear" and transfer.options["retrain"] is True
    values = penalties(transfer.evaluation.configure(transfer.options))
    assert len(values) == 45 and values[0] == pytest.approx(1e5)
    assert all(found[name].evaluation.name == "linear_images" for name in names[1:])


def test_the_rule_of_many_medium_and_few_is_the_grids_and_in_no_key() -> None:
    plan = plan_of("grid.shots_rule=oltr")
    assert manifest(plan, "", {})["shots_rule"] == "oltr"
    assert manifest(plan_of(), "", {})["shots_rule"] == "thirds"
    assert {cell.evaluation: cell.stage.key for cell in plan.cells} == KEYS
    assert "unknown rule 'halves'" in problems_of("grid.shots_rule=halves")
    paper = compose(["grid=long_tail", "scale=paper"])["grid"]
    assert paper["shots_rule"] == "sdclr_imagenet"


def test_an_evaluation_of_the_encoder_needs_no_features() -> None:
    plan = plan_of("grid.evaluations=[finetune@digits]")
    cell, = plan.cells
    assert cell.features is None and cell.encoder.kind == "pretrain"
    assert cell.stage.params["data"]["source"] == "digits" and cell.stage.params["seed"] == 0
    assert [stage.kind for stage in in_order([cell.stage])] == ["pretrain", "evaluate"]


def test_other_choices_are_another_key_and_equal_ones_the_same() -> None:
    def keys(*arguments: str) -> dict[str, str]:
        asked = "grid.evaluations=[linear,mine,finetune]"
        plan = plan_of(asked, "protocols.mine.evaluation=linear", *arguments)
        return {cell.evaluation: cell.stage.key for cell in plan.cells}

    first = keys()
    assert first["mine"] == first["linear"], "a protocol without options is its evaluation"
    second = keys("protocols.mine.options.l2_count=7",
                  "scale.evaluations.finetune.lrs=[0.05,0.1]")
    assert second["linear"] == first["linear"]
    assert second["mine"] != first["mine"] and second["finetune"] != first["finetune"]
    assert keys("protocols.mine.layer=hidden")["mine"] != first["mine"]


def test_a_protocol_takes_the_scale_and_then_its_own_options() -> None:
    plan = plan_of("grid.evaluations=[semi_10]", "scale.evaluations.semi_10.batch_size=32")
    options = plan.cells[0].stage.params["options"]
    assert options["share"] == 0.1, "of the protocol"
    assert list(options["lrs"]) == [0.02, 0.05], "of the scale"
    assert options["batch_size"] == 32, "of the scale for this protocol"


def test_targets_have_places_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _folder(tmp_path / name, 1 if name == "one" else 2)
    plan = plan_of("grid.evaluations=[knn@first,knn@second]", *(
        f"targets.{target}={{source: folder, path: {tmp_path / place}}}"
        for target, place in (("first", "one"), ("second", "two"))))
    fingerprints = {cell.evaluation: cell.features.params["data"]["fingerprint"]
                    for cell in plan.cells if cell.features}
    assert len(set(fingerprints.values())) == 2
    assert plan.places[fingerprints["knn@second"]] == str(tmp_path / "two")
    assert str(tmp_path) not in str([stage.params for stage in plan.stages])


def _folder(root: Path, shade: int) -> None:
    from PIL import Image

    for part in ("train", "test"):
        for label in "ab":
            (root / part / label).mkdir(parents=True)
            for i in range(8):
                colour = (10 * i, 40 * shade, 100 if label == "a" else 200)
                Image.new("RGB", (32, 32), colour).save(root / part / label / f"{i}.png")


@pytest.mark.parametrize(("argument", "says"), [
    ("grid.evaluations=[knm]", "unknown evaluation 'knm'. Did you mean 'knn'"),
    ("grid.evaluations=[semi_11]", "Did you mean 'semi_1"),
    ("grid.evaluations=[linear@digit]", "unknown target 'digit'. Did you mean 'digits'"),
    ("targets.mine.sourc=photos,grid.evaluations=[knn@mine]", "Did you mean 'source'"),
    ("protocols.mine={evaluation: knn, options: {K: 3}},grid.evaluations=[mine]",
     "protocols.mine.options"),
    ("protocols.mine={evaluation: knn, layer: last},grid.evaluations=[mine]",
     "unknown layer 'last'"),
    ("grid.headline.metric=top6", "unknown metric 'top6'. Did you mean 'top"),
    ("grid.evaluations=[diagnostics],grid.headline.evaluation=diagnostics",
     "grid.headline.metric of 'diagnostics'"),
    ("protocols.mine={evaluation: semi, options: {file: none.txt}},grid.evaluations=[mine]",
     "none.txt"),
])
def test_what_is_wrong_is_said_when_planning(argument: str, says: str) -> None:
    parts = argument.replace(",grid.", "\ngrid.").split("\n")
    assert says in problems_of(*parts)


def test_every_evaluation_says_what_it_returns() -> None:
    known = evaluations()
    named = {"linear", "knn", "semi", "finetune", "clusters", "diagnostics", "alignment"}
    assert named <= set(known)
    assert all(e.metrics and e.takes in ("features", "encoder") for e in known.values())
    assert known["linear"].returns("mean_per_class") == ("top1", "balanced", "mean_per_class")
    assert known["finetune"].returns("map11") == ("map11",)
    assert measure("mutual_information_bits").unit == "bits"
    assert measure("uniformity").better == "lower" and not measure("uniformity").refuses(-3.0)
    assert measure("top1").refuses(1.5) and measure("top1").refuses(float("nan"))
    with pytest.raises(ValueError, match="'top1' is declared twice"):
        declare(Measure("top1", "something else"))


def test_a_layer_that_a_method_lacks_is_not_planned() -> None:
    rows = "grid.methods=[moclr,supervised,random_init,raw_pixels]"
    plan = plan_of(rows, "grid.evaluations=[linear,clusters_hidden,clusters_output]")
    found = {(cell.row.id, cell.evaluation) for cell in plan.cells}
    assert len([cell for cell in found if cell[1] == "linear"]) == 4
    assert found - {(row, "linear") for row, _ in found} == {
        ("moclr", "clusters_hidden"), ("moclr", "clusters_output"),
        ("supervised", "clusters_output")}
    said = [line for line in plan.cautions if "lacks" in line]
    assert len(said) == 5 and len(set(said)) == 5
    assert ("evaluation 'clusters_hidden' is of the layer 'hidden', which 'supervised' lacks: it "
            "has pooled and output; it is left out") in said
    line = problems_of("grid.methods=[raw_pixels]", "grid.evaluations=[linear,clusters_hidden]")
    assert line.endswith("evaluation 'clusters_hidden' is of the layer 'hidden', which "
                         "'raw_pixels' lacks: it has pooled"), line
