"""Claims on simulated records of known truth: verdicts as planted, errors at their level."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import synthetic
import yaml

from harness import claim_sheet, report
from harness.claim_tests import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    SUPPORTED,
    ClaimSheet,
    Entry,
    Link,
    _columns,
    _values,
    claims_sheet,
    judged,
)
from harness.claims_data import Claim, Side, claims
from harness.errors import UserError
from harness.measured import Condition, Measured, Method, read
from harness.statistics import power_of, seeds_for, summarise

BASE = {"source": "planted", "evaluation": "linear", "metric": "balanced", "minimum": 0.5}


def claim(name: str, kind: str, sides: list[Any], **more: Any) -> dict[str, Any]:
    return {**BASE, "id": f"dnc/{name}", "statement": f"{name}.", "kind": kind, "sides": sides,
            "grid": "curation_gap", "condition": None if kind == "trend" else "curated", **more}


def on(row: str, condition: str) -> dict[str, str]:
    return {"row": row, "condition": condition}


PLANTED = (
    claim("better", "difference", ["dnc", "moclr"]),
    claim("worse", "difference", ["moclr", "dnc"]),
    claim("order", "ordering", ["dnc", "moclr", "simclr"]),
    claim("broken_order", "ordering", ["dnc", "simclr", "moclr"]),
    claim("gap", "interaction", [on("dnc", "uncurated"), on("moclr", "uncurated"),
                                 on("dnc", "curated"), on("moclr", "curated")]),
    claim("lower", "mechanism", ["moclr", "dnc"], better="lower"),
    claim("rises", "trend", ["dnc", "moclr"], direction="rising", grid="long_tail", minimum=0.1),
    claim("falls", "trend", ["moclr"], direction="falling", grid="long_tail", minimum=0.1),
    claim("absent", "difference", ["dnc", "vicreg"]),
    claim("elsewhere", "difference", ["dnc", "moclr"], grid="layers"),
)
# start and loss from the first to the last condition
TRUTH = {"dnc": (0.80, 0.02), "moclr": (0.76, 0.12), "simclr": (0.70, 0.12)}
WANTED = {
    "better": SUPPORTED, "worse": CONTRADICTED, "order": SUPPORTED, "broken_order": CONTRADICTED,
    "gap": SUPPORTED, "lower": SUPPORTED, "rises": SUPPORTED, "falls": SUPPORTED,
    "absent": NOT_RUN, "elsewhere": NOT_RUN}


def write_claims(folder: Path, *entries: dict[str, Any]) -> Path:
    (folder / "papers" / "dnc").mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"paper": {"title": "x"}, "claims": list(entries)})
    (folder / "papers" / "dnc" / "claims.yaml").write_text(text)
    return folder / "papers"


def simulated(folder: Path, grid: str = "curation_gap", seeds: int = 6,
              noise: float = 0.004, **more: Any) -> Measured:
    axis = {"conditions": synthetic.LEVELS, "figure": "curve"} if grid == "long_tail" else {}
    plan = synthetic.study(grid, methods=tuple(TRUTH), seeds=tuple(range(seeds)),
                           evaluations=("linear",), **axis, **more)
    frame = synthetic.records(plan, noise=noise, truth=TRUTH)
    return read(synthetic.write(folder, plan, frame))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> ClaimSheet:
    folder = tmp_path_factory.mktemp("planted")
    found = [simulated(folder, grid) for grid in ("curation_gap", "long_tail")]
    return claims_sheet(found, write_claims(folder, *PLANTED))


@pytest.mark.parametrize("name", WANTED)
def test_verdicts_come_out_as_planted(planted: ClaimSheet, name: str) -> None:
    entry, = (e for e in planted.entries if e.claim.id == f"dnc/{name}")
    assert entry.verdict == WANTED[name], entry
    if entry.verdict != NOT_RUN:
        assert entry.family == 8 and all(link.estimate.n == 6 for link in entry.links)
        assert all(key for key in entry.keys) and len(entry.keys) >= 12


def test_effects_are_the_truth(planted: ClaimSheet) -> None:
    found = {e.claim.id[4:]: e for e in planted.entries}
    assert float(found["better"].links[0].estimate.mean) == pytest.approx(0.04, abs=0.008)
    assert float(found["gap"].links[0].estimate.mean) == pytest.approx(0.10, abs=0.012)
    # 12 points over five steps; their slope against log2 of 1, 5, 20, 50, 100, 200
    x = np.log2([1, 5, 20, 50, 100, 200])
    slope = float(np.polyfit(x, np.arange(6) * 0.12 / 5, 1)[0])
    assert float(found["falls"].links[0].estimate.mean) == pytest.approx(slope, abs=0.001)
    assert found["falls"].links[0].estimate.kind == "t"
    assert found["rises"].links[0].estimate.kind == "paired t"
    assert found["rises"].links[0].name == "slope per doubling of DnC - MoCLR"
    assert found["better"].links[0].effect == pytest.approx(
        float(found["better"].links[0].estimate.mean) / found["better"].links[0].estimate.sd)
    assert found["worse"].why == "the opposite is so"
    assert found["absent"].why == "the study has no row vicreg"
    assert found["elsewhere"].command == "python -m harness.sweep grid=layers scale=laptop"
    assert [link.name for link in found["order"].links] == ["DnC - MoCLR", "MoCLR - SimCLR"]


def test_too_little_to_matter_contradicts(tmp_path: Path) -> None:
    folder = write_claims(tmp_path, claim("same", "difference", ["dnc", "moclr"], minimum=8.0))
    entry, = claims_sheet([simulated(tmp_path)], folder).entries
    assert entry.verdict == CONTRADICTED and "less than 8 points is shown" in entry.why


# -- missing cells --------------------------------------------------------------------------------


def test_a_seed_without_a_cell_is_left_out_by_name(tmp_path: Path) -> None:
    plan = synthetic.study("long_tail", methods=tuple(TRUTH), seeds=(0, 1, 2, 3),
                           evaluations=("linear",), conditions=synthetic.LEVELS, figure="curve")
    frame = synthetic.fail(plan, synthetic.records(plan, truth=TRUTH), "dnc", "if50", [1])
    measured = read(synthetic.write(tmp_path, plan, frame))
    rises, falls = claims_sheet([measured], write_claims(tmp_path, *PLANTED[6:8])).entries
    assert rises.links[0].seeds == (0, 2, 3) and rises.links[0].estimate.n == 3
    assert rises.notes == ("seed 1 is left out: without dnc on 50",)
    assert falls.links[0].seeds == (0, 1, 2, 3) and not falls.notes


def test_what_failed_is_not_run_with_its_cause(tmp_path: Path) -> None:
    plan = synthetic.study(methods=tuple(TRUTH), evaluations=("linear",))
    frame = synthetic.fail(plan, synthetic.records(plan, truth=TRUTH), "dnc", "curated", [0, 1, 2])
    measured = read(synthetic.write(tmp_path, plan, frame))
    entry, = claims_sheet([measured], write_claims(tmp_path, PLANTED[0])).entries
    assert entry.verdict == NOT_RUN and "dnc on curated: failed: loss is NaN" in entry.why
    assert not entry.links and entry.command == measured.study.command


@pytest.mark.parametrize(("seeds", "why"), [(1, "n=1: a test needs at least two seeds"),
                                            (4, "the seeds do not differ at all")])
def test_one_seed_and_copies_prove_nothing(tmp_path: Path, seeds: int, why: str) -> None:
    measured = simulated(tmp_path, seeds=seeds, noise=0.0)
    entry, = claims_sheet([measured], write_claims(tmp_path, PLANTED[0])).entries
    assert entry.verdict == INCONCLUSIVE and why in entry.why and np.isnan(entry.p)
    assert entry.links[0].estimate.n == seeds and entry.further is None


def test_unequal_budgets_are_told(tmp_path: Path) -> None:
    plan = synthetic.study(methods=tuple(TRUTH), evaluations=("linear",))
    frame = synthetic.records(plan, truth=TRUTH)
    frame.loc[frame["method"] == "moclr", "images_seen"] = 100_000
    measured = read(synthetic.write(tmp_path, plan, frame))
    entry, = claims_sheet([measured], write_claims(tmp_path, PLANTED[0])).entries
    assert entry.notes == ("not of equal budget: images seen dnc 200,000, moclr 100,000",)
    assert entry.verdict == SUPPORTED  # it does not say at what budget
    said = {**PLANTED[0], "statement": "DnC beats MoCLR at equal budget."}
    entry, = claims_sheet([measured], write_claims(tmp_path, said)).entries
    assert entry.verdict == INCONCLUSIVE and entry.why == f"not comparable, {entry.notes[0]}"


# -- errors at their level ------------------------------------------------------------------------


def stand_in(values: np.ndarray) -> Measured:
    """A study of A, B, C, D on six levels whose records are `values` (rows, levels, seeds)."""
    conditions = tuple(Condition(f"l{x}", str(x), float(x), None) for x in (1, 2, 4, 8, 16, 32))
    study = SimpleNamespace(
        methods=tuple(Method(name, name, False) for name in "abcd"), conditions=conditions,
        evaluations=("linear",), axis_log=True, level=0.95)
    cube = SimpleNamespace(values=values)
    return cast(Measured, SimpleNamespace(study=study, seeds=tuple(range(values.shape[-1])),
                                          cubes={("linear", "top1"): cube}))


def made(kind: str, rows: str, condition: str | None = "highest") -> Claim:
    sides = tuple(Side(row, condition, "linear", "top1") for row in rows)
    return Claim("x/x", "x", "x.", "planted", kind, "x", sides, 0.5)


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("kind", ["difference", "interaction", "trend"])
def test_intervals_cover_the_truth(kind: str, n: int) -> None:
    simulations, rng = 2_000, np.random.default_rng(n)
    truth = rng.normal(0.7, 0.05, (4, 6, 1))
    seeds = rng.normal(0, 0.02, (1, 1, simulations * n))  # what rows share on a seed
    measured = stand_in(truth + seeds + rng.normal(0, 0.01, (4, 6, simulations * n)))
    tested = made(kind, {"difference": "ab", "interaction": "abcd", "trend": "ab"}[kind],
                  None if kind == "trend" else "highest")
    columns = _columns(tested, measured)[1]
    values, _ = _values(tested, measured, columns)
    real, _ = _values(tested, stand_in(truth), columns)
    summary = summarise(values.reshape(simulations, n), 0.95)
    covered = float(np.mean((summary.low <= real) & (real <= summary.high)))
    assert abs(covered - 0.95) < 0.015, covered


def sheets(true: tuple[float, ...], least: float, simulations: int,
           n: int = 4) -> list[list[Entry]]:
    """Sheets of claims of these true effects, which share a baseline: (simulations, claims)."""
    rng, count = np.random.default_rng(n), len(true)
    base = rng.normal(0, 1, (simulations, 1, n))
    noise = (rng.normal(0, 1, (simulations, count, n)) - base) / np.sqrt(2)
    values = np.array(true)[:, None] + 0.01 * noise
    zero, minimum = summarise(values, 0.95, "paired t"), summarise(values - least, 0.95)
    estimates, result = iter(zero.estimates()), []
    tested = Claim("x/x", "x", "x.", "planted", "difference", "x", made("difference", "ab").sides,
                   least * 100)
    for p, q in zip(zero.p.tolist(), minimum.p.tolist(), strict=True):
        result.append([Entry(tested, INCONCLUSIVE, "", (Link(
            "a - b", e := next(estimates), float(e.mean) / e.sd, p[i], q[i], tuple(range(n)), ()),),
            "x", "laptop", "x", command="run") for i in range(count)])
    return result


@pytest.mark.parametrize(("true", "wrong"), [(0.0, SUPPORTED), (0.01, CONTRADICTED)])
def test_a_whole_sheet_is_wrong_at_most_as_often_as_its_level(true: float, wrong: str) -> None:
    # where the effect is 0 nothing may be supported, where it is the minimum nothing contradicted
    found = [judged(sheet, 0.95) for sheet in sheets((true,) * 8, 0.01, 1_000)]
    verdicts = [{entry.verdict for entry in sheet} for sheet in found]
    rate = np.mean([wrong in each for each in verdicts])
    assert len(found) == 1_000 and 0.0 < rate <= 0.05, rate
    # and the test is no dummy: without the correction the sheet would be wrong more often
    bare = np.mean([any(entry.links[0].p < 0.05 for entry in sheet) for sheet in found])
    assert true or bare > 0.15


def test_true_claims_on_the_sheet_do_not_carry_false_ones() -> None:
    found = [judged(sheet, 0.95) for sheet in sheets((0.2,) * 4 + (0.0,) * 4, 0.01, 500)]
    right = np.mean([entry.verdict == SUPPORTED for sheet in found for entry in sheet[:4]])
    wrong = np.mean([any(e.verdict == SUPPORTED for e in sheet[4:]) for sheet in found])
    assert len(found) == 500 and right > 0.95 and wrong <= 0.05, (right, wrong)


@pytest.mark.parametrize(("effect", "alpha"), [
    (0.5, 0.05), (1.2, 0.05), (1.2, 0.05 / 8), (3, 0.01)])
def test_the_seeds_that_are_asked_for_reach_the_power(effect: float, alpha: float) -> None:
    n = seeds_for(effect, alpha)
    assert n is not None
    values = np.random.default_rng(n).normal(effect, 1, (10_000, n))
    summary = summarise(values)
    power = np.mean((summary.p < alpha) & (summary.mean > 0))
    predicted = power_of(effect, n, alpha)
    assert abs(power - predicted) < 0.015 and predicted >= 0.8
    assert n == 2 or power_of(effect, n - 1, alpha) < 0.8


def test_power_is_that_of_the_tables() -> None:
    # Cohen 1988 and G*Power: two-sided t test of pairs, 80 % power
    assert [seeds_for(d, 0.05) for d in (0.2, 0.5, 1.0)] == [199, 34, 10]
    assert seeds_for(0.05, 0.05) is None and seeds_for(1e6, 0.05) == 2
    assert seeds_for(0.0, 0.05) is None


def exactly(mean: float, sd: float, n: int) -> np.ndarray:
    """n values of exactly that mean and standard deviation."""
    x = np.linspace(-1, 1, n)
    return mean + sd * (x - x.mean()) / x.std(ddof=1)


def test_further_seeds_settle_what_is_open(tmp_path: Path) -> None:
    plan = synthetic.study(methods=tuple(TRUTH), seeds=(0, 1, 2), evaluations=("linear",))
    frame = synthetic.records(plan, truth=TRUTH)
    at = {m: (frame["method"] == m) & (frame["condition"] == "curated")
          & (frame["metric"] == "balanced") for m in ("dnc", "moclr")}
    frame.loc[at["moclr"], "value"] = 0.7
    frame.loc[at["dnc"], "value"] = 0.7 + exactly(0.02, 0.015, 3)
    measured = read(synthetic.write(tmp_path, plan, frame))
    folder = write_claims(tmp_path, PLANTED[0], claim("back", "difference", ["moclr", "dnc"]))
    entry, back = claims_sheet([measured], folder).entries
    assert entry.verdict == INCONCLUSIVE and entry.further is not None and entry.family == 2
    n = 3 + entry.further
    assert n == seeds_for(0.02 / 0.015, 0.05 / 2)
    draws = np.random.default_rng(0).normal(0.02, 0.015, (10_000, n))
    assert 0.79 < np.mean(summarise(draws).p < 0.05 / 2) < 0.92
    assert entry.why == f"{entry.further} more seeds would support it (80 % power)"
    assert entry.command.endswith(f"grid.seeds=[{','.join(map(str, range(n)))}]")
    assert "would contradict it" in back.why and back.further is not None
    assert back.further < entry.further  # -2 points are farther from the minimum than from 0


# -- what is damaged, and the door ----------------------------------------------------------------


def results(folder: Path) -> Path:
    for grid in ("curation_gap", "long_tail"):
        simulated(folder / "results", grid)
    return folder / "results"


def change(path: Path, edit: Any) -> None:
    frame = pd.read_parquet(path)
    edit(frame).to_parquet(path, index=False)


def other_protocol(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[frame.index[0], "protocol"] = "f" * 16
    return frame


def bad_value(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[frame.index[3], "value"] = 79.3
    return frame


@pytest.mark.parametrize(("edit", "message"), [
    (other_protocol, "'linear' was measured under 2 protocols"),
    (lambda frame: pd.concat([frame, frame.iloc[[5]]]), "is recorded more than once"),
    (bad_value, "has value 79.3, not a fraction"),
    (lambda frame: frame.drop(columns="protocol"), "lacks protocol"),
])
def test_a_damaged_study_is_refused_by_name(tmp_path: Path, edit: Any, message: str) -> None:
    folder = results(tmp_path)
    change(folder / "curation_gap-laptop" / "records.parquet", edit)
    names = ["curation_gap-laptop", "long_tail-laptop"]
    sheet = claim_sheet.from_results(folder, names)
    assert len(sheet.refused) == 1 and message in sheet.refused[0]
    assert sheet.refused[0].startswith("curation_gap-laptop: ") and "\n" not in sheet.refused[0]
    assert [name for name, _, _ in sheet.studies] == ["long_tail-laptop"]
    assert all(e.verdict == NOT_RUN for e in sheet.entries if e.claim.grid == "curation_gap")
    assert f"refused: {sheet.refused[0]}" in claim_sheet.markdown(sheet)
    with pytest.raises(UserError, match=message):
        claim_sheet.from_results(folder, names[:1])


def test_a_record_of_another_configuration_is_no_record(tmp_path: Path) -> None:
    folder = results(tmp_path)

    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        at = (frame["method"] == "dnc") & (frame["condition"] == "uncurated") & (frame["seed"] == 2)
        frame.loc[at, "evaluate_key"] = "0" * 64
        return frame

    change(folder / "curation_gap-laptop" / "records.parquet", edit)
    sheet = claim_sheet.from_results(folder, ["curation_gap-laptop"])
    entry, = (e for e in sheet.entries if e.claim.id == "dnc/uncurated_moclr")
    assert entry.links[0].seeds == (0, 1, 3, 4, 5)
    assert entry.notes == ("seed 2 is left out: without dnc on uncurated",)
    assert "5 records belong to no cell of this study" in sheet.studies[0][2]


def test_a_truncated_file_is_refused_by_name(tmp_path: Path) -> None:
    folder = results(tmp_path)
    path = folder / "curation_gap-laptop" / "records.parquet"
    path.write_bytes(path.read_bytes()[:2_000])
    (folder / "long_tail-laptop" / "study.json").write_text("{")
    sheet = claim_sheet.from_results(folder, ["curation_gap-laptop", "long_tail-laptop"])
    assert ["is not readable" in sheet.refused[0], "is damaged" in sheet.refused[1]] == [True] * 2
    assert {entry.verdict for entry in sheet.entries} == {NOT_RUN}


def test_the_door_prints_and_writes_the_sheet(tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    folder = results(tmp_path)
    assert report.main(["claims=true", f"results={folder}"]) == 0
    out = capsys.readouterr().out
    assert "On uncurated images DnC beats MoCLR at equal budget." in out and "Holm" in out
    assert sorted(path.name for path in folder.glob("claims*")) == [
        f"claims.{suffix}" for suffix in ("csv", "json", "md", "pdf", "png", "svg", "tex")]
    table = pd.read_csv(folder / "claims.csv")
    tested = table[table["verdict"] != NOT_RUN]
    assert set(table["claim"]) == set(claims()) and len(tested) >= 5
    assert (tested["n"] == 6).all() and set(tested["interval"]) == {"t", "paired t"}
    told = json.loads((folder / "claims.json").read_text())
    assert len(told["claims"]) == len(table) and told["level"] == 0.95
    markdown = (folder / "claims.md").read_text()
    assert "## dnc" in markdown and "(n=6)" in markdown
    assert "python -m harness.sweep grid=ablations scale=laptop" in markdown


def test_one_study_one_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = results(tmp_path)
    assert report.main(["claims=true", "grid=long_tail", f"results={folder}", "format=csv",
                        "figures=false"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert not list(folder.glob("claims*"))
    assert sorted(path.name for path in (folder / "long_tail-laptop").glob("claims*")) == [
        "claims.csv", "claims.json", "claims.md", "claims.tex"]
    assert rows[0].startswith("claim,paper,kind") and any("long_tail-laptop" in r for r in rows)
    assert not any("curation_gap-laptop" in row for row in rows)
    assert report.main(["claims=true", "scale=paper", f"results={folder}", "format=markdown"]) == 0
    assert f"0 supported, 0 contradicted, 0 inconclusive, {len(claims())} not run" in \
        capsys.readouterr().out
    assert report.main(["claims=true", f"results={folder}", "format=latex"]) == 0
    assert r"\begin{tabular}" in capsys.readouterr().out
