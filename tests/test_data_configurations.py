"""conf/data and conf/scale/paper: they say what is absent, and plan on tiny real layouts."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from source_layouts import BUILDERS, Painter, imagenet
from support import door

from datasets import SOURCES
from datasets.sources.yfcc import write_sizes
from harness.config import choices, compose
from harness.errors import Problems
from harness.plan import Plan, make_plan
from harness.store import Store
from harness.study import resolve_study

SMALL = ("grid.methods=[simclr]", "grid.seeds=[0]")


def plan_of(results: Path, *arguments: str) -> Plan:
    study = resolve_study(compose([f"results={results}", *arguments]))
    return make_plan(study, Store(study.results / "store"))


def conditions(plan: Plan) -> dict[str, dict[str, Any]]:
    """The data of each condition's pre-training stage."""
    return {cell.condition.id: _pretrain(cell.stage).params["data"] for cell in plan.cells}


def _pretrain(stage: Any) -> Any:
    while stage.kind != "pretrain":
        stage, = stage.inputs.values()
    return stage


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's layout with 5 classes of 40 images."""
    root = tmp_path_factory.mktemp("imagenet")
    imagenet(Painter(root), train=40, test=4)
    return root


def test_every_configuration_names_sources_and_sizes() -> None:
    names = choices("data")
    assert len(names) >= 18
    for name, path in names.items():  # without hydra, which takes half a second each
        told = yaml.safe_load(path.read_text())
        roles = {role: {} if told is None else told for role, told in told["roles"].items()}
        assert {told["source"], *(r.get("source", "npz") for r in roles.values())} <= set(SOURCES)
        assert set(roles) <= {"curated", "uncurated"}, name
        for key in ("size", "labelled"):
            assert told[key] is None or set(told[key]) == {"smoke", "laptop", "gpu", "paper"}, name
        assert path.read_text().startswith("# "), name


@pytest.mark.parametrize("name", ["places_lt", "stl10"])
def test_absent_data_is_one_line_a_source(tmp_path: Path, name: str) -> None:
    with pytest.raises(Problems) as caught:
        plan_of(tmp_path, "grid=curation_gap", "scale=paper", f"data={name}",
                f"data.path={tmp_path}/none", *SMALL)
    line = str(caught.value)
    hint = {"places_lt": SOURCES["places365"].fetch_hint, "stl10": "data.options.download=true"}
    assert line.count("expected") == 1 and hint[name] in line and f"{tmp_path}/none" in line


def test_the_door_says_it_before_any_work(tmp_path: Path) -> None:
    done = door("harness.sweep", "grid=curation_gap", "scale=paper", "data=imagenet",
                f"data.path={tmp_path}", f"results={tmp_path}/r", "dry_run=true")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"finds no {tmp_path}/train" in done.stderr and "image-net.org" in done.stderr


def test_grids_plan_at_the_scale_of_the_papers(tmp_path: Path, few: Path) -> None:
    for grid in ("methods", "spurious"):  # all methods; all of the scale's axes are alike
        plan = plan_of(tmp_path, f"grid={grid}", "scale=paper", "data=imagenet",
                       f"data.path={few}", "data.options.partial=true", "data.size=50",
                       "data.labelled=null", "scale.axes.classes=[2,5]", "scale.axes.step=4",
                       "scale.axes.imbalance=[1,10]", "scale.axes.repeats=[1,4]")
        assert plan.cells and plan.todo == plan.stages, grid


def test_rows_of_a_grid_may_have_settings_of_a_scale(tmp_path: Path, few: Path) -> None:
    """FNC's baseline has FNC's rate in the papers' ablations, SimCLR its own; CLD its 8 GPUs'."""
    plan = plan_of(tmp_path, "grid=ablations", "scale=paper", "data=imagenet",
                   f"data.path={few}", "data.options.partial=true", "data.size=50",
                   "grid.methods=[simclr,simclr_head3,fnc_attraction,cld]", "grid.seeds=[0]")
    found = {c.row.id: c.stage.inputs["features"].inputs["encoder"].params for c in plan.cells
             if c.evaluation == "linear"}
    assert {name: p["training"]["lr"] for name, p in found.items()} == {
        "simclr": 4.8, "simclr_head3": 6.4, "fnc_attraction": 6.4, "cld": 0.2}
    assert found["cld"]["options"]["key_splits"] == found["cld"]["options"]["group_splits"] == 8
    assert [name for name, p in found.items() if p["training"].get("decay_all")] == ["cld"]


def test_dnc_at_the_scale_of_the_papers_has_its_schedule(tmp_path: Path, few: Path) -> None:
    plan = plan_of(tmp_path, "grid=curation_gap", "scale=paper", "data=imagenet",
                   f"data.path={few}", "data.options.partial=true", "data.size=50",
                   "grid.methods=[dnc,byol,fnc,cld]", "grid.seeds=[0]", "grid.conditions=[curated]")
    found = [s.params for s in plan.stages if s.kind == "pretrain"]
    by_method = {name: [p["training"] for p in found if p["method"] == name]
                 for name in ("moclr", "distil", "byol", "fnc", "cld")}
    # DnC, Table 2: 1000, 1500 over 5 experts, 500; appendix E: 0.3 per 256 images
    assert [t["epochs"] for t in by_method["moclr"]] == pytest.approx([1000] + [1500] * 5)
    assert by_method["distil"][0]["epochs"] == pytest.approx(500)
    for row in (*by_method["moclr"], *by_method["distil"]):
        assert (row["optimizer"], row["batch_size"], row["lr"], row["weight_decay"],
                row["warmup_epochs"]) == ("lars", 4096, 4.8, 1.5e-6, 10)
    assert by_method["byol"][0]["lr"] == 3.2 and by_method["fnc"][0]["lr"] == 6.4
    assert by_method["fnc"][0]["optimizer"] == "lars_simclr"
    assert (by_method["cld"][0]["batch_size"], by_method["cld"][0]["lr"]) == (512, 0.2)
    assert found[0]["backbone"] == {"name": "resnet50", "stem": "imagenet",
                                    "zero_init_residual": True}


def test_long_tailed_against_balanced_images_of_one_folder(tmp_path: Path) -> None:
    for name, source in (("imagenet_lt", "imagenet"), ("places_lt", "places365")):
        root = tmp_path / name
        BUILDERS[name](Painter(root))
        size = 5 if name == "imagenet_lt" else 2
        data = conditions(plan_of(
            tmp_path, "grid=curation_gap", f"data={name}", f"data.path={root}",
            "data.options.partial=true", f"data.size={size}", "data.labelled=null", *SMALL))
        assert data["curated"]["source"] == source and data["uncurated"]["source"] == name
        assert data["uncurated"]["controls"] == {"size": {"profile": "natural", "alpha": 1.0}}
        assert data["curated"]["images"] == data["uncurated"]["images"] == size
        assert data["uncurated"]["options"]["partial"]


def test_yfcc_beside_imagenet(tmp_path: Path, few: Path) -> None:
    shards = tmp_path / "yfcc"
    shards.mkdir()
    for number in range(2):
        with tarfile.open(shards / f"{number:05d}.tar", "w") as archive:
            for image in range(30):
                _add(archive, f"{number}{image:03d}.jpg", image)
    assert write_sizes(shards) == 60
    asked = ("grid=curation_gap", "data=yfcc100m", f"data.path={few}", "data.size=50",
             "data.options.partial=true", "data.labelled=null", *SMALL)
    data = conditions(plan_of(tmp_path, *asked, f"data.roles.uncurated.path={shards}"))
    assert [data[name]["source"] for name in ("curated", "uncurated")] == ["imagenet", "yfcc100m"]
    assert data["curated"]["images"] == data["uncurated"]["images"] == 50
    assert data["uncurated"]["controls"] == {} and data["uncurated"]["unlabelled"] == 50
    with pytest.raises(Problems, match="needs labels"):
        plan_of(tmp_path, *asked[:-2], "grid.methods=[supervised]",
                f"data.roles.uncurated.path={shards}")


def _add(archive: tarfile.TarFile, name: str, number: int) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (20, 16), (number * 8, 60, 60)).save(stream, "JPEG")
    entry = tarfile.TarInfo(name)
    entry.size = stream.tell()
    stream.seek(0)
    archive.addfile(entry, stream)
