"""The main command as a user runs it: real processes, a real store, real (small) training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, contents, door, sweep

METHOD = '''
"""SimSiam's little sister: two views predict each other."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.options import option
from methods.registry import register


@register("little_sister")
class LittleSister(Method):
    """Predict one view's projection from the other's."""

    views = ("simclr", "simclr")

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Its options."""

        width: int = option(64, at_least=1)

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        super().__init__(backbone, info, config)
        self.head = nn.Linear(info.feature_dim, config.width)

    def loss(self, batch: Batch) -> Tensor:
        one, other = (nn.functional.normalize(self.head(self.backbone(v))) for v in batch.views)
        scores = one @ other.T / 0.5
        return nn.functional.cross_entropy(scores, torch.arange(len(one)))
'''
BROKEN = METHOD.replace("little_sister", "broken").replace(
    "return nn.functional.cross_entropy(scores, torch.arange(len(one)))",
    "return scores.mean() * float('nan')")


def test_a_sweep_leaves_records_tables_figures_and_a_page(finished: Path) -> None:
    folder = finished / "curation_gap-smoke"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"study.json", "records.parquet", "report.html"} <= found
    for kind in ("tables/", "figures/"):
        endings = {Path(name).suffix for name in found if name.startswith(kind)}
        assert endings >= ({".md", ".tex", ".csv"} if kind == "tables/" else
                           {".png", ".pdf", ".svg"})


def test_a_record_says_where_it_comes_from(finished: Path) -> None:
    records = sorted((finished / "store" / "pretrain").glob("??/*/record.json"))
    assert len(records) >= 8
    for path in records:
        record = json.loads(path.read_text())
        assert {"git_commit", "code", "command", "created", "hardware", "versions",
                "stage_seconds"} <= set(record)
        assert record["versions"]["torch"] and "python -m harness.sweep" in record["command"]


def test_the_same_command_again_runs_nothing_in_three_seconds(finished: Path) -> None:
    before = contents(finished)
    seconds = []
    for _ in range(2):
        start = os.times()
        again = sweep(finished)
        end = os.times()
        # CPU seconds: a busy machine must not fail it
        seconds.append(end.children_user + end.children_system
                       - start.children_user - start.children_system)
        assert again.returncode == 0 and "0 to run" in again.stdout
        assert "ran " not in again.stdout
    assert contents(finished) == before
    assert min(seconds) <= 3.0, seconds


def test_two_empty_stores_get_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    other = sweep(tmp_path, "launcher.workers=1")
    assert other.returncode == 0, other.stderr
    assert len(contents(finished)) > 50 and contents(tmp_path) == contents(finished)


def test_a_plug_in_of_one_file_enters_the_grid(tmp_path: Path) -> None:
    plugin = tmp_path / "little_sister.py"
    plugin.write_text(METHOD)
    assert len(METHOD.splitlines()) <= 60
    done = sweep(tmp_path / "r", "grid.methods=[random_init,little_sister]", f"plugins=[{plugin}]")
    assert done.returncode == 0, done.stderr
    assert "little_sister" in done.stdout
    checked = door("harness.check", "method=little_sister", f"plugins={plugin}")
    assert checked.returncode == 0, checked.stdout


def test_a_failure_costs_its_own_cells_only(tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(BROKEN)
    done = sweep(tmp_path / "r", "grid.methods=[random_init,broken,simclr]", f"plugins=[{plugin}]")
    assert done.returncode == 1
    assert "loss became nan at step 1 of" in done.stderr and "Traceback" not in done.stderr
    assert "run just these again (all else is paid for): python -m harness.sweep" in done.stderr
    study = json.loads((tmp_path / "r/curation_gap-smoke/study.json").read_text())
    assert {f["method"] for f in study["failures"]} == {"broken"}
    filled = {c["method"] for c in study["cells"] if list(
        (tmp_path / "r/store/evaluate").glob(f"??/{c['key']}"))}
    assert filled == {"random_init", "simclr"}
    status = door("harness.status", "grid=curation_gap", "scale=smoke", f"results={tmp_path / 'r'}")
    assert status.returncode == 1 and "loss became nan" in status.stdout


def test_a_damaged_artifact_is_named_and_mended(tmp_path: Path) -> None:
    small = ("grid.methods=[random_init]", "grid.conditions=[curated]")
    assert sweep(tmp_path, *small).returncode == 0
    before = contents(tmp_path)
    metrics = sorted((tmp_path / "store/evaluate").glob("??/*/metrics.json"))
    metrics[0].write_text(metrics[0].read_text().replace("0.", "0.9", 1))
    again = sweep(tmp_path, *small)
    assert again.returncode == 1 and "does not match SHA256SUMS" in again.stderr
    assert "repair=true" in again.stderr and "Traceback" not in again.stderr
    mended = sweep(tmp_path, *small, "repair=true")
    assert mended.returncode == 0, mended.stderr
    assert contents(tmp_path) == before
    assert len(list((tmp_path / "store/quarantine").iterdir())) == 1


@pytest.mark.parametrize(("arguments", "said"), [
    (["grid=curation_gp"], "Did you mean 'curation_gap'"),
    (["grid=curation_gap", "grid.methods=[]"], "grid.methods: must name at least one"),
    (["grid=curation_gap", "data=npz", "data.path=/nowhere.npz"], "finds no file /nowhere.npz"),
    (["grid=curation_gap", "data=cifar10", "data.path=/nowhere"], "data.options.download=true"),
    (["grid=curation_gap", "results=pyproject.toml"], "choose another place with results=DIR"),
])
def test_a_wrong_request_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    done = door("harness.sweep", *arguments, "scale=smoke")
    assert done.returncode == 2
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [
    ("harness.sweep", "--help"), ("harness.list", "methods"), ("harness.list", "datasets"),
    ("harness.status", "--help"), ("harness.report", "--help"), ("harness.check", "--help")])
def test_help_and_list_are_fast_and_import_no_torch(arguments: tuple[str, ...]) -> None:
    code = (f"import runpy, sys; sys.argv = {list(arguments)!r}\n"
            f"try: runpy.run_module({arguments[0]!r}, run_name='__main__')\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "assert 'torch' not in sys.modules, 'torch was imported'")
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    times = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True,
                       env=env)
        after = os.times()
        times.append(after.children_user + after.children_system
                     - before.children_user - before.children_system)
    assert min(times) <= 1.0, times  # CPU seconds: a busy machine must not fail it


def test_dry_run_prices_from_the_store_and_runs_nothing(finished: Path) -> None:
    before = contents(finished)
    done = sweep(finished, "dry_run=true", "grid.seeds=[0,1]")
    assert done.returncode == 0
    assert "estimate: " in done.stdout and "measured stages" in done.stdout
    assert contents(finished) == before
