"""The committed study: whole, made by the commands that it states, and what is said of it is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from support import ROOT, door

from harness.claim_sheet import files, from_results, summary
from harness.measured import read
from methods.registry import discover

REFERENCE = ROOT / "results/reference"
STUDIES = sorted(path.parent.name for path in REFERENCE.glob("*/study.json"))
STATED = re.findall(r"^ {4}(python -m harness\.\S+ .*)$", (REFERENCE / "README.md").read_text(),
                    re.MULTILINE)
SWEEPS = [line for line in STATED if "harness.sweep" in line]


def test_every_study_is_made_by_a_stated_command() -> None:
    assert len(STUDIES) >= 6 and len(SWEEPS) == len(STUDIES)
    made = [read(REFERENCE / name).study.command for name in STUDIES]
    assert sorted(map(shlex.split, made)) == sorted(map(shlex.split, SWEEPS))


@pytest.mark.parametrize("command", SWEEPS)
def test_its_commands_are_understood(command: str, tmp_path: Path) -> None:
    module, *arguments = shlex.split(command)[2:]
    done = door(module, *arguments, "dry_run=true", f"results={tmp_path}")
    assert done.returncode == 0 and "cells" in done.stdout, done.stderr


@pytest.mark.parametrize("name", STUDIES)
def test_every_cell_has_three_seeds(name: str) -> None:
    records = pd.read_parquet(REFERENCE / name / "records.parquet")
    seeds = records.groupby(["method", "condition", "evaluation", "metric"]).seed.nunique()
    assert len(seeds) > 10 and (seeds >= 3).all()
    assert not read(REFERENCE / name).study.failures


def test_all_methods_under_both_conditions() -> None:
    records = pd.read_parquet(REFERENCE / "methods-laptop/records.parquet")
    every = {name for name, spec in discover().items()
             if "teachers" not in spec.needs and name != "checkpoint"}
    for condition in ("curated", "uncurated"):
        assert set(records[records.condition == condition].method) == every
    assert len(every) >= 20


def test_the_sheet_of_claims_is_that_of_the_records() -> None:
    sheet = from_results(REFERENCE, STUDIES)
    made = files(sheet)
    assert {"claims.md", "claims.csv", "claims.tex"} <= set(made)
    for name, content in made.items():
        assert (REFERENCE / name).read_bytes() == content, name
    assert summary(sheet) in (ROOT / "README.md").read_text().replace("\n", " ")
