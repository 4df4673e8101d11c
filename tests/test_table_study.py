"""Papers' tables as studies: every cell that can be filled plans, stages are shared, twins keep
ratios, prices add up, and a small table runs from one end to the other."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support import contents, door

from harness import explain, report, status
from harness.config import compose
from harness.errors import Problems, UserError
from harness.flops import cost
from harness.papers import tables
from harness.plan import Plan, make_plan
from harness.pricing import extent, quote
from harness.stages import Stage, in_order
from harness.store import Store
from harness.study import resolve_study
from harness.table_plan import lines

TABLES = tables()
DERIVED = {(name, at) for name, t in TABLES.items() for at, c in t.by_place.items() if c.derived}
FILLABLE = {(name, c.key, c.column) for name, t in TABLES.items() for c in t.cells
            if (c.fill or c.stand_in) and not c.derived}

SQUARES = ["data: pre-training crops are taken from the centre square of each photograph, "
           "published: from all of it",
           "protocol: tested on the centre square at the image size, published: on 224 of 256 "
           "pixels of the shorter side, trained on crops of all of it"]


@cache
def composed(*arguments: str) -> dict[str, Any]:
    """A configuration, composed once: hydra takes longer than a plan."""
    return compose(["table=dnc/table1", "dry_run=true", *arguments])


def planned(name: str, scale: str, folder: Path, *arguments: str) -> Plan:
    config = composed(f"scale={scale}", f"results={folder}", *arguments)
    return make_plan(resolve_study({**config, "table": name}), Store(folder / "store"))


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nowhere")


@pytest.fixture(scope="module")
def paper(nowhere: Path) -> Plan:
    return planned("all", "paper", nowhere, "grid.seeds=[0]")


def cells_of(plan: Plan, name: str) -> dict[tuple[str, str], dict[str, Any]]:
    table = TABLES[name]
    return {(",".join(str(k) for k in table.key(table.rows[c["row"]])), c["column"]): c
            for c in plan.study.papers[name]["cells"]}


def stages_of(plan: Plan, cell: dict[str, Any]) -> list[Stage]:
    found, = [c.stage for c in plan.cells if (c.row.id, c.condition.id, c.evaluation) ==
              (cell["method"], cell["condition"], cell["evaluation"])]
    return in_order([found])


def test_every_fillable_cell_of_every_table_plans_at_paper_scale(paper: Plan) -> None:
    asked = {(name, TABLES[name].key(TABLES[name].rows[c["row"]]), c["column"])
             for name, entry in paper.study.papers.items() for c in entry["cells"]
             if "method" in c and "reason" not in c}
    assert len(FILLABLE) > 700 and asked == FILLABLE and not paper.refused
    told = sum(len(entry["cells"]) for entry in paper.study.papers.values())
    assert told == sum(len(t.cells) for t in TABLES.values())  # none dropped, none invented
    made = {(c.row.id, c.condition.id, c.evaluation) for c in paper.cells}
    assert all((c["method"], c["condition"], c["evaluation"]) in made
               for entry in paper.study.papers.values() for c in entry["cells"]
               if "reason" not in c and "derived" not in c)


def test_cells_made_of_others_say_of_which_and_which_table_to_ask_for(paper: Plan,
                                                                      nowhere: Path) -> None:
    told = {(name, (c["row"], c["column"])): c for name, entry in paper.study.papers.items()
            for c in entry["cells"]}
    made = {at for at, c in told.items() if "derived" in c}
    assert len(DERIVED) == 68 and made <= DERIVED
    left = {told[at]["reason"] for at in DERIVED - made}
    assert len(DERIVED - made) == 1 and "no ResNet-200x2 backbone" in left.pop()
    gap = cells_of(paper, "dnc/text")["BYOL-1k, YFCC100M against ImageNet,points", "value"]
    assert gap["derived"] == ("the difference dnc/table3:YFCC100M,BYOL,R-50,1000:imagenet_top1 "
                              "minus dnc/table1:BYOL,1000:top1")
    alone = cells_of(planned("dnc/text", "paper", nowhere), "dnc/text")
    assert alone["BYOL-1k, YFCC100M against ImageNet,points", "value"]["reason"] == (
        "the difference of cells of dnc/table1, dnc/table3, which this study does not ask for; "
        "table=dnc does")
    stated, eleven = cells_of(paper, "dnc/text"), cells_of(paper, "dnc/table11")
    assert [stated[f"teachers see {what},%", "value"]["method"] for what in
            ("the views", "centre crops")] == [eleven[f"True,True,{centre}", "top1"]["method"]
                                               for centre in (False, True)]


def test_a_stage_is_planned_once_for_all_tables(paper: Plan, nowhere: Path) -> None:
    keys = Counter(stage.key for stage in paper.stages)
    assert len(keys) > 500 and max(keys.values()) == 1
    alone = planned("dnc/table3", "paper", nowhere, "grid.seeds=[0]")
    assert {s.key for s in alone.stages} < set(keys)


def test_tables_share_what_papers_share(paper: Plan) -> None:
    three, four = cells_of(paper, "dnc/table3"), cells_of(paper, "dnc/table4")
    one = three["YFCC100M,DnC,R-50,4500", "imagenet_top1"]
    other = four["YFCC100M,DnC-4.5k", "food101"]
    assert one["method"] == other["method"] and other["evaluation"] == "linear_transfer@food101"
    base = three["YFCC100M,MoCLR,R-50,1000", "imagenet_top1"]
    moclr = [s.key for s in stages_of(paper, base) if s.kind == "pretrain"]
    assert len(moclr) == 1 and moclr[0] in {s.key for s in stages_of(paper, one)}
    assert other["metric"] == "top1" and four["YFCC100M,DnC-4.5k", "pets"]["metric"] == \
        "mean_per_class"


def test_top5_is_asked_of_the_run_of_top1(paper: Plan) -> None:
    asked = {(name, c["row"], c["column"]): c for name, entry in paper.study.papers.items()
             for c in entry["cells"]}
    found = {at: c for at, c in asked.items() if at[2].startswith("top5") and "method" in c}
    assert len(found) == 42
    for (name, row, column), cell in found.items():
        other = asked[name, row, column.replace("top5", "top1")]
        assert cell["metric"] == "top5" and {**cell, "metric": 0, "column": 0} == {
            **other, "metric": 0, "column": 0}


def test_epochs_are_those_of_imagenet_on_every_data_set(paper: Plan) -> None:
    cell = cells_of(paper, "dnc/table3")["YFCC100M,MoCLR,R-50,5000", "imagenet_top1"]
    run, = [s for s in stages_of(paper, cell) if s.kind == "pretrain"]
    seen = run.params["training"]["epochs"] * run.params["data"]["images"]
    assert seen == pytest.approx(5000 * 1281167) and run.params["data"]["source"] == "yfcc100m"
    warm = run.params["training"]["warmup_epochs"] * run.params["data"]["images"]
    assert warm == pytest.approx(10 * 1281167)
    assert run.params["backbone"]["name"] == "resnet50" and run.params["image_size"] == 224
    score = stages_of(paper, cell)[-1]
    assert score.params["data"]["source"] == "imagenet" and cell["evaluation"].endswith("@imagenet")


def test_table_18_sets_the_rate_of_the_distillation_alone(paper: Plan) -> None:
    cells = cells_of(paper, "dnc/table18")
    rates, bases = {}, set()
    for (label, _), cell in cells.items():
        runs = [s for s in stages_of(paper, cell) if s.kind == "pretrain"]
        rates[label] = {s.params["training"]["lr"] for s in runs if s.params["method"] == "distil"}
        bases.add(next(s.key for s in runs if "subset" not in s.params))
        assert {s.params["training"]["lr"] for s in runs if s.params["method"] == "moclr"} == {4.8}
    assert rates == {"60,0.45": {7.2}, "100,0.45": {7.2}, "200,0.35": {5.6}, "300,0.35": {5.6},
                     "500,0.3": {4.8}}
    assert len(bases) == 1


def test_cifar_tables_have_their_own_network_and_settings(paper: Plan) -> None:
    cell = cells_of(paper, "cld/cifar_npid")["NPID+CLD,paper,Linear,cifar10", "top1"]
    run = stages_of(paper, cell)[0]
    assert run.params["backbone"]["name"] == "resnet18" and run.params["image_size"] == 32
    training = run.params["training"]
    assert (training["batch_size"], training["lr"], training["schedule"], training["decay_all"],
            run.params["views"]) == (256, 0.06, "cosine_cld", True, {"colour": "sequential"})
    assert not {"key_splits", "group_splits"} & set(run.params["options"])  # one GPU
    assert cell["evaluation"] == "knn_output_k200_sigma0.1@cifar10-32px"
    assert stages_of(paper, cell)[-2].params["data"]["image_size"] == 32


def test_a_stand_in_is_no_verdict(paper: Plan) -> None:
    cell = cells_of(paper, "dnc/table3")["JFT-300M,DnC,R-50,4500", "imagenet_top1"]
    assert cell["condition"] == "yfcc100m"
    assert cell["differs"] == ["data: JFT-300M is private; yfcc100m stands in"]
    assert not cells_of(paper, "dnc/table1")["BYOL,1000", "top1"].get("differs")


@pytest.mark.parametrize("scale", ["paper", "smoke"])
def test_assumed_epochs_forbid_a_verdict_at_every_scale(scale: str, nowhere: Path) -> None:
    plan = planned("dnc/table9", scale, nowhere, "grid.seeds=[0]")
    found = cells_of(plan, "dnc/table9")
    cell = found["SwAV", "top1_10"]
    assert ("schedule: the paper does not state the epochs; 800 assumed: its length in table 17"
            in cell["differs"])
    row = next(r for r in plan.study.rows if r.id == cell["method"])
    longest = 3000 if scale == "paper" else float(plan.study.training["epochs"])
    assert row.training["epochs"] == pytest.approx(800 / 3000 * longest)
    assert found["Barlow Twins", "top1_1"]["reason"] == "not published for this cell: epochs"


def test_what_the_command_line_changes_is_named(nowhere: Path) -> None:
    plan = planned("dnc/table1", "paper", nowhere, "scale.training.batch_size=1024",
                   "targets.imagenet.path=/nowhere")
    cell = cells_of(plan, "dnc/table1")["BYOL,1000", "top1"]
    assert cell["differs"] == ["schedule: scale.training.batch_size=1024"]


def test_the_place_of_a_data_set_is_said_once(nowhere: Path) -> None:
    for argument in ("targets.imagenet.path=/nowhere", "data=imagenet data.path=/nowhere"):
        plan = planned("dnc/table1", "paper", nowhere, *argument.split())
        assert {c.data["path"] for c in plan.study.conditions} == {"/nowhere"}
        assert {e.data["path"] for e in plan.study.evaluations.values()} == {"/nowhere"}
        assert not cells_of(plan, "dnc/table1")["BYOL,1000", "top1"].get("differs")


def test_photographs_are_whole_at_the_papers_scale(paper: Plan) -> None:
    """DnC's frozen features of its 12 sets are of squares; what is pre-trained on is whole."""
    def data(table: str, row: str, column: str) -> list[tuple[str, bool]]:
        cell = cells_of(paper, table)[row, column]
        assert not [line for line in cell.get("differs", ()) if "square" in line]
        found = [stage.params["data"] for stage in stages_of(paper, cell) if "data" in stage.params]
        return [(data["source"], data["options"].get("whole", False)) for data in found]

    assert set(data("dnc/table1", "BYOL,1000", "top1")) == {("imagenet", True)}
    assert set(data("cld/cifar_npid", "NPID,README,Linear,cifar10", "top1")) == {("cifar10", False)}
    assert set(data("dnc/table3", "YFCC100M,DnC,R-50,4500", "imagenet_top1")) == {
        ("yfcc100m", False), ("imagenet", True)}
    assert set(data("dnc/table4", "YFCC100M,DnC-4.5k", "food101")) == {
        ("yfcc100m", False), ("food101", False)}
    infomin = cells_of(paper, "cld/imagenet_infomin")["InfoMin,MLP,100", "top1"]["differs"]
    assert len(infomin) == 1 and "RandAugment" in infomin[0]


def test_no_verdict_where_photographs_are_cropped_otherwise(nowhere: Path) -> None:
    plan = planned("all", "paper", nowhere, "grid.seeds=[0]", "+targets.imagenet.path=/nowhere",
                   "+targets.imagenet.options={whole: false}")
    for table, row, column, told in (
            ("dnc/table1", "BYOL,1000", "top1", SQUARES),
            ("dnc/table3", "YFCC100M,DnC,R-50,4500", "imagenet_top1", SQUARES[1:]),
            ("dnc/table4", "YFCC100M,DnC-4.5k", "food101", [])):
        differs = cells_of(plan, table)[row, column]["differs"]
        assert [line for line in differs if not line.startswith("schedule: +targets")] == told


def test_absent_data_is_a_caution_of_a_dry_run_and_an_error_of_a_run(nowhere: Path) -> None:
    plan = planned("dnc/table1", "paper", nowhere)
    assert plan.cautions == ("data absent: imagenet is planned by its published 1,271,158 training "
                             "images; keys are provisional",)
    config = composed("scale=paper", f"results={nowhere}")
    study = resolve_study({**config, "dry_run": False})
    with pytest.raises(Problems, match="imagenet"):
        make_plan(study, Store(nowhere / "store"))


@pytest.mark.parametrize("scale", ["smoke", "gpu"])
def test_twins_keep_ratios_and_say_what_differs(scale: str, nowhere: Path) -> None:
    plan = planned("dnc/table3", scale, nowhere)
    epochs = float(plan.study.training["epochs"])
    cells = cells_of(plan, "dnc/table3")
    for (label, column), cell in cells.items():
        if column == "imagenet_top1" and label.startswith("YFCC"):
            row = next(r for r in plan.study.rows if r.id == cell["method"])
            share = float(label.split(",")[-1]) / 5000
            assert row.training["epochs"] == pytest.approx(share * epochs)
            assert cell["condition"] == "uncurated" and cell["evaluation"] == "linear"
            assert {d.split(":")[0] for d in cell["differs"]} == {
                "scale", "data", "schedule", "protocol"}
    absent = cells["YFCC100M,DnC,R-50,4500", "places365_top1"]
    assert "no counterpart at this scale: places365" in absent["reason"]
    assert "a twin" in plan.study.papers["dnc/table3"]["note"]


def test_sizes_are_the_scales_unless_the_table_is_about_them(nowhere: Path) -> None:
    plan = planned("all", "smoke", nowhere)
    assert not plan.refused and len({s.key for s in plan.stages}) == len(plan.stages) > 300
    rows = {r.id: r for r in plan.study.rows}
    clusters = [rows[c["method"]] for c in cells_of(plan, "dnc/table18").values()]
    assert clusters and all("k" not in row.options for row in clusters)
    tops = {rows[c["method"]].options.get("top_k")
            for c in cells_of(plan, "fnc/figure_support").values()}
    assert {2, 4, 8} <= tops


@pytest.mark.parametrize("scale", ["smoke", "laptop", "gpu"])
def test_the_dogs_are_a_few_classes_at_a_small_scale(scale: str, nowhere: Path) -> None:
    plan = planned("dnc/table7", scale, nowhere, "grid.seeds=[0]")
    cells = cells_of(plan, "dnc/table7")
    few, whole = cells["BYOL,canine,200", "top1"], cells["BYOL,full,200", "top1"]
    assert (few["condition"], whole["condition"]) == ("canine", "curated")
    data, other = (next(s for s in stages_of(plan, c) if s.kind == "pretrain").params["data"]
                   for c in (few, whole))
    assert data["controls"]["diversity"] == {"classes": 3, "order": "label"}
    assert data["images"] == other["images"] and other["controls"] == {}
    assert "data: photos, 3 of its classes, for canine" in few["differs"]
    assert "protocol: scored on all classes of photos for canine" in whole["differs"]
    assert "derived" in cells["BYOL,canine,200", "delta_vs_full_1000"]


def test_data_with_too_few_images_in_a_few_classes_say_so(nowhere: Path) -> None:
    plan = planned("dnc/table7", "smoke", nowhere, "grid.seeds=[0]", "data.size=8000")
    cells = cells_of(plan, "dnc/table7")
    assert "role 'canine': " in cells["BYOL,canine,200", "top1"]["reason"]
    assert "made of 2 cells, of which 1 cannot" in cells[
        "BYOL,canine,200", "delta_vs_full_1000"]["reason"]
    assert "reason" not in cells["BYOL,full,200", "top1"]


# -- price ---------------------------------------------------------------------------------------


def test_the_price_adds_up(paper: Plan, nowhere: Path) -> None:
    plan = planned("dnc/table1", "paper", nowhere, "grid.seeds=[0]")
    price = quote(plan, Store(nowhere / "store"))
    row = next(alone for label, alone, _ in price.rows if label.startswith("MoCLR"))
    network = cost({"name": "resnet50"} | {"stem": "imagenet"}, 224)
    trained = 1000 * 1281167 * 2 * 3 * 2 * network.multiply_adds / 60e12
    scored = (80 * 1271158 + 10009 + 50000) * 2 * network.multiply_adds / 60e12
    assert row == pytest.approx(trained + scored, rel=1e-6)
    assert price.seconds == pytest.approx(price.alone) and price.measured == 0
    everything = quote(paper, Store(nowhere / "store"))
    assert everything.seconds < 0.9 * everything.alone
    assert sum(everything.jobs.values()) == len(paper.todo)
    assert 100 * 2**30 < everything.bytes < 2**40


def test_extent_is_published_or_a_share() -> None:
    assert extent({"source": "imagenet", "images": 5, "size": None}) == (1271158, 10009, 50000)
    assert extent({"source": "photos", "images": 900, "size": 900}) == (900, 100, 100)


def test_the_plan_in_words(paper: Plan) -> None:
    text = "\n".join(lines(paper, None))
    assert re.search(r"all-tables at paper scale: 9\d\d of 1136 published cells of 42 tables", text)
    assert "; 67 cells more are means or differences of them" in text
    assert "not asked: 4 cells: not published for this cell: epochs" in text


# -- doors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "message"), [
    (["table=dnc/table33"], "Did you mean 'dnc/table3'"),
    (["table=dnc/table3", "grid=long_tail"], "grid and table are both given"),
    (["table=dnc/table3", "grid.methods=[byol]"], "grid.methods: a table has rows"),
    (["scale=smoke"], "or table=NAME")])
def test_wrong_requests(arguments: list[str], message: str) -> None:
    with pytest.raises(Problems, match=re.escape(message)):
        compose(arguments)


def test_nothing_to_fill_says_why() -> None:
    with pytest.raises(UserError, match="nothing of table 'dnc/table14' can be .*: a prop"):
        planned("dnc/table14", "smoke", Path("nowhere"))


def test_a_dry_run_prices_a_table(tmp_path: Path) -> None:
    done = door("harness.sweep", "table=dnc/table3", "scale=paper", "dry_run=true",
                f"results={tmp_path}")
    assert done.returncode == 0 and "GPU-hours" in done.stdout, done.stderr
    assert re.search(r"price: [\d,]+ GPU-hours, [\d.]+ GiB of disk, \d+ jobs", done.stdout)
    assert "sharing saves" in done.stdout and "assumed, not measured: A100" in done.stdout
    assert "data absent: yfcc100m" in done.stderr and not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("table")
    done = door("harness.sweep", "table=cld/cifar_npid", "scale=smoke", "grid.seeds=[0]",
                "launcher.workers=1", f"results={results}")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "6 published cells: 6 not comparable" in done.stdout
    return results


def test_a_small_table_runs_and_reports(finished: Path) -> None:
    folder = finished / "cld-cifar_npid-smoke"
    told = json.loads((folder / "study.json").read_text())["papers"]["cld/cifar_npid"]["cells"]
    assert len(told) == 6 and contents(finished)
    for suffix in ("md", "tex", "csv"):
        assert (folder / f"tables/paper-cld-cifar_npid.{suffix}").stat().st_size > 500
    page = (folder / "report.html").read_text()
    assert "Published tables" in page and page.count("not comparable") >= 6


@pytest.mark.slow
def test_a_table_of_dnc_runs_with_its_base_and_rows_compared(tmp_path: Path) -> None:
    done = door("harness.sweep", "table=dnc/table8", "scale=smoke", f"results={tmp_path}",
                timeout=900)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "9 published cells: 9 not comparable" in " ".join(done.stdout.split())
    assert "e3000: DnC minus MoCLR: published +1.3, here" in " ".join(done.stdout.split())
    again = door("harness.sweep", "table=dnc/table8", "scale=smoke", "dry_run=true",
                 f"results={tmp_path}")
    assert " 0 to run" in again.stdout and "price" not in again.stdout


def test_report_and_status_take_a_table(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["table=cld/cifar_npid", "scale=smoke", f"results={finished}"]
    assert report.main([*place, "format=csv"]) == 0
    assert capsys.readouterr().out.count("not comparable") == 6
    assert status.main(place) == 0
    assert "cld-cifar_npid-smoke" in capsys.readouterr().out
    with pytest.raises(UserError, match="Did you mean"):
        report.main(["table=cld/cifar", f"results={finished}"])


def test_explain_a_measured_cell(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main(["cld/cifar_npid:NPID+CLD,paper,cifar10:top1", "scale=smoke",
                         f"results={finished}"]) == 0
    text = capsys.readouterr().out
    assert "published  86.7 %" in text and "source     R" in text
    assert len(re.findall(r"^ {4}[0-9a-f]{12}  .*in the store$", text, re.M)) == 3
    assert re.search(r"measured in cld-cifar_npid-smoke: .*: not comparable", text)


@pytest.mark.parametrize(("name", "message"), [
    ("dnc/table3:DnC:imagenet_top1", "is 6 rows; name one of"),
    ("dnc/table3:DnC", "write TABLE:ROW:COLUMN"),
    ("dnc/table33:0:top1", "Did you mean 'dnc/table3'")])
def test_explain_says_what_is_ambiguous_or_unknown(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        explain.find(name)
    assert "\n" not in str(error.value)
