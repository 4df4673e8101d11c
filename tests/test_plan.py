from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from harness.config import choices, compose
from harness.errors import Problems
from harness.plan import Plan, make_plan
from harness.stages import in_order
from harness.store import Store
from harness.study import resolve_study

SMOKE = ("grid=curation_gap", "scale=smoke")


def plan_of(results: Path, *arguments: str) -> Plan:
    study = resolve_study(compose([*SMOKE, f"results={results}", *arguments]))
    return make_plan(study, Store(results / "store"))


def pretrainings(plan: Plan, row: str) -> list[Any]:
    cells = [cell.stage for cell in plan.cells if cell.row.id == row]
    return [s for s in in_order(cells) if s.kind == "pretrain"]


def test_every_grid_and_scale_plans(tmp_path: Path) -> None:
    # at the scale of the papers on ImageNet: tests/test_data_configurations.py
    pairs = [(grid, scale) for grid in choices("grid") for scale in choices("scale")
             if scale != "paper"]
    assert len(pairs) >= 6
    for grid, scale in pairs:
        plan = plan_of(tmp_path, f"grid={grid}", f"scale={scale}")
        assert plan.cells and plan.todo == plan.stages


def test_dnc_shares_its_base_with_the_moclr_row_of_that_length(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "grid.methods=[moclr_base,moclr,dnc]", "grid.seeds=[0]",
                   "grid.conditions=[curated]")
    base, = pretrainings(plan, "moclr_base")
    dnc = pretrainings(plan, "dnc")
    assert base in dnc and pretrainings(plan, "moclr")[0] not in dnc
    assert [set(rows) for _, rows in plan.shared()] == [{"MoCLR, DnC's base only", "DnC"}]
    k = int(plan.study.config["scale"]["methods"]["dnc"]["options"]["k"])
    assert len(dnc) == 1 + k + 1  # base, experts, student


def test_equal_budget(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "grid.seeds=[0]", "grid.conditions=[uncurated]")
    budget = plan.study.training["epochs"]
    for row in ("simclr", "mocov2", "byol", "moclr", "dnc", "supervised"):
        spent = 0.0
        for stage in pretrainings(plan, row):
            share = stage.inputs["groups"].params["k"] if "subset" in stage.params else 1
            spent += stage.params["training"]["epochs"] / share
            assert stage.params["training"]["batch_size"] == plan.study.training["batch_size"]
        assert spent == pytest.approx(budget), row


def test_conditions_have_the_same_total_and_evaluation_images(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert len({sum(counts) for counts in plan.class_counts.values()}) == 1
    evaluated = {s.params["data"]["fingerprint"] for s in plan.stages if s.kind == "features"}
    assert len(evaluated) == 1


def test_references_that_see_no_training_images_are_shared_by_conditions(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "grid.methods=[random_init]", "grid.seeds=[0]")
    assert len({cell.stage.key for cell in plan.cells if cell.evaluation == "knn"}) == 1


@pytest.mark.parametrize("argument", ["launcher.workers=7", "launcher.device=cpu",
                                      "launcher.checkpoint_seconds=1", "results=elsewhere"])
def test_where_it_runs_is_in_no_key(tmp_path: Path, argument: str) -> None:
    plain = plan_of(tmp_path, "grid.seeds=[0]")
    other = plan_of(tmp_path, "grid.seeds=[0]", argument)
    assert [s.key for s in plain.stages] == [s.key for s in other.stages]


@pytest.mark.parametrize("argument", [
    "scale.training.momentum=0.5", "scale.training.precision=fp32", "scale.training.threads=2",
    "method.simclr.temperature=0.9", "scale.views.gray=0.5", "data.size=152",
    "scale.backbone.width=16", "grid.seeds=[5]"])
def test_what_it_computes_is_in_the_key(tmp_path: Path, argument: str) -> None:
    row = ("grid.methods=[simclr]", "grid.seeds=[0]")
    plain, other = plan_of(tmp_path, *row), plan_of(tmp_path, *row, argument)
    mine, theirs = ({s.key for s in p.stages if s.kind == "pretrain"} for p in (plain, other))
    assert mine and theirs and not mine & theirs


def test_a_method_option_touches_no_other_method(tmp_path: Path) -> None:
    plain, other = plan_of(tmp_path), plan_of(tmp_path, "method.simclr.temperature=0.9")
    for row in ("byol", "moclr", "dnc"):
        assert pretrainings(plain, row) == pretrainings(other, row)
    assert pretrainings(plain, "simclr") != pretrainings(other, "simclr")


def test_all_problems_at_once() -> None:
    with pytest.raises(Problems) as error:
        resolve_study(compose([*SMOKE, "grid.methods=[simcrl,byol]", "grid.seeds=[0,0]",
                               "scale.training.epochs=-1", "method.byol.momentun=1",
                               "method.moclr.temperature=0", "grid.evaluations=[knm]"]))
    said = "\n".join(error.value.problems)
    assert len(error.value.problems) == 6
    for words in ("'simcrl'. Did you mean 'simclr'", "0 is listed twice", "'epochs' must be > 0",
                  "'momentun'. Did you mean 'momentum'", "'temperature' must be > 0",
                  "'knm'. Did you mean 'knn'"):
        assert words in said


@pytest.mark.parametrize(("arguments", "said"), [
    (["grid=curation_gp"], "unknown grid 'curation_gp'. Did you mean 'curation_gap'"),
    (["grid=curation_gap", "scale=huge"], "unknown scale 'huge'"),
    (["grid=curation_gap", "data=cifr10"], "unknown data 'cifr10'. Did you mean 'cifar10'"),
    (["grid=curation_gap", "scale.training.epoch=3"], "Did you mean 'scale.training.epochs'"),
    (["grid=curation_gap", "nonsense"], "'nonsense' is not understood"),
    (["scale=smoke"], "which grid?"),
    (["grid=curation_gap", "scale.training.lr=[1"], "configuration: "),
])
def test_a_wrong_argument_is_one_line(arguments: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        compose(arguments)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("argument", "said"), [
    ("scale.backbone.name=resnet19", "unknown backbone 'resnet19'. Did you mean 'resnet18'"),
    ("scale.backbone.widht=16", "unknown option 'widht'. Did you mean 'width'")])
def test_a_wrong_backbone_is_named_before_anything_runs(argument: str, said: str) -> None:
    with pytest.raises(Problems, match=said):
        resolve_study(compose([*SMOKE, argument]))


def test_a_networks_defaults_are_in_the_key(tmp_path: Path) -> None:
    stage = pretrainings(plan_of(tmp_path, "grid.methods=[simclr]", "grid.seeds=[0]"), "simclr")[0]
    assert {"name", "width", "stages", "stem_stride"} <= set(stage.params["backbone"])


def test_too_few_images_says_how_many(tmp_path: Path) -> None:
    with pytest.raises(Problems, match="size 100000 needs .* images of class .*reduce size by"):
        plan_of(tmp_path, "data.size=100000")


def test_a_plan_of_ten_thousand_stages_takes_two_seconds(tmp_path: Path) -> None:
    seeds = ",".join(map(str, range(115)))
    plan_of(tmp_path, "grid.seeds=[0]")  # imports and picture files are not planning
    study = resolve_study(compose([*SMOKE, f"results={tmp_path}", f"grid.seeds=[{seeds}]"]))
    started = time.process_time()
    plan = make_plan(study, Store(tmp_path / "store"))
    assert len(plan.stages) >= 10_000 and len(plan.todo) >= 10_000
    assert time.process_time() - started <= 2.0
