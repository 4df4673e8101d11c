from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from rich.console import Console

from harness.errors import UserError
from harness.measured import Measured, parse_study, read, read_study
from harness.statistics import paired
from harness.table_formats import escape_latex, escape_markdown, latex, markdown, terminal, tidy_csv
from harness.tables import Table, build_tables, mark, merged, significantly_best

HOSTILE = r"""a & b_1 % $x$ #2 {y} \z ~ ^ <b>|"q"' `c` ± α é 中 [l](u) *i*"""


def measured(tmp_path: Path, random: int = 0, **overrides: Any) -> Measured:
    plan = synthetic.study(**overrides)
    return read(synthetic.write(tmp_path, plan, synthetic.records(plan, random=random)))


def one(tables: list[Table], name: str) -> Table:
    found = [table for table in tables if table.name == name]
    assert len(found) == 1
    return found[0]


def shown(table: Table, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(terminal(table, width), crop=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_evaluation_and_metric_has_a_table_and_the_headline_is_first(tmp_path: Path) -> None:
    tables = build_tables(measured(tmp_path))
    assert len(tables) == 2 * 5 * 2
    assert [t.name for t in tables[:3]] == ["linear-balanced", "gap-linear-balanced",
                                            "knn-balanced"]
    for table in tables:
        assert len(table.cells) == len(table.rows) * len(table.columns) > 0


def test_cells_are_the_means_of_their_records(tmp_path: Path) -> None:
    study = measured(tmp_path)
    tables = build_tables(study)
    frame = study.records.query("evaluation == 'linear' and metric == 'balanced'")
    cell = one(tables, "linear-balanced").cells["dnc", "uncurated"]
    rows = frame.query("method == 'dnc' and condition == 'uncurated'")
    assert len(rows) == cell.estimate.n == 3
    assert float(cell.estimate.mean) == pytest.approx(rows["value"].mean())
    assert cell.keys == tuple(rows["evaluate_key"]) and cell.seeds == (0, 1, 2)
    sides = [dict(frame.query(f"method == 'dnc' and condition == '{c}'")[["seed", "value"]].values)
             for c in ("curated", "uncurated")]
    gap = one(tables, "gap-linear-balanced").cells["dnc", "uncurated"]
    assert float(gap.estimate.mean) == pytest.approx(float(paired(*sides).difference.mean))
    assert gap.estimate.low == pytest.approx(paired(*sides).difference.low)
    assert len(gap.keys) == 6 and gap.estimate.kind == "paired t"


def test_planted_gaps_are_found(tmp_path: Path) -> None:
    table = one(build_tables(measured(tmp_path, 1, seeds=range(10))), "gap-linear-balanced")
    assert table.cells["simclr", "uncurated"].p < 0.001
    assert table.cells["random_init", "uncurated"].p > 0.05
    low, high = (getattr(table.cells["simclr", "uncurated"].estimate, e) for e in ("low", "high"))
    assert low < synthetic.TRUTH["simclr"][1] < high


def test_missing_and_failed_cells_are_named_and_never_averaged(tmp_path: Path) -> None:
    plan = synthetic.study()
    frame = synthetic.records(plan)
    frame = synthetic.fail(plan, frame, "byol", "uncurated", [1, 2])
    frame = frame[~((frame["method"] == "simclr") & (frame["condition"] == "curated"))]
    tables = build_tables(read(synthetic.write(tmp_path, plan, frame)))
    table, gap = one(tables, "linear-balanced"), one(tables, "gap-linear-balanced")
    assert table.cells["simclr", "curated"].estimate.missing
    assert table.cells["byol", "uncurated"].estimate.n == 1
    assert gap.cells["byol", "uncurated"].seeds == (0,)
    reasons = {note.mark: note for note in table.footnotes}
    assert len(reasons) == 2
    failed = reasons[table.cells["byol", "uncurated"].marks[0]]
    assert "seeds 1, 2" in failed.text and "NaN at step 412" in failed.text
    assert failed.rerun.endswith("grid.methods=[byol] grid.seeds=[1,2]")
    waiting = reasons[table.cells["simclr", "curated"].marks[0]]
    assert "not run yet" in waiting.text and waiting.rerun == plan["command"]
    for text in (shown(table), markdown(table), latex(table), tidy_csv(table)):
        assert "not run yet" in " ".join(text.split()) and "--" in text or "nan" not in text
    row = next(r for r in csv.DictReader(io.StringIO(tidy_csv(table)))
               if (r["method"], r["condition"]) == ("simclr", "curated"))
    assert (row["mean"], row["n"], row["seeds"]) == ("", "0", "") and "not run yet" in row["status"]


def test_bold_needs_a_significant_paired_difference() -> None:
    rng = np.random.default_rng(0)
    plan = synthetic.study(methods=("simclr", "byol", "moclr", "dnc", "supervised"))
    study = parse_study(plan)
    shared = rng.normal(0, 0.02, size=(1, 1, 5))
    values = 0.7 + shared + rng.normal(0, 0.002, size=(5, 1, 5))
    values[4] += 0.2  # the reference is far better and does not compete
    assert not any(best for _, best in significantly_best(study, values, values.mean(-1)).values())
    values[3] += 0.02
    assert significantly_best(study, values, values.mean(-1))[3, 0][1]


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("methods", [2, 5])
def test_bold_is_wrong_no_more_often_than_its_level(methods: int, n: int) -> None:
    rng = np.random.default_rng(n)
    names = ("simclr", "byol", "moclr", "dnc", "fnc")[:methods]
    study = parse_study(synthetic.study(methods=names))
    wrong = 0
    for _ in range(1500):
        values = rng.normal(0.7, 0.01, size=(methods, 1, n))
        wrong += any(b for _, b in significantly_best(study, values, values.mean(-1)).values())
    assert wrong / 1500 < 0.05 + 0.015


def test_reference_rows_stand_below_a_rule(tmp_path: Path) -> None:
    table = build_tables(measured(tmp_path))[0]
    assert [row.id for row in table.references] == list(synthetic.REFERENCES)
    assert latex(table).count(r"\midrule") == 2
    assert markdown(table).index("*Reference*") > markdown(table).index("DnC")
    assert shown(table).count("\u2500\u2500\u2500\u2500") > 0


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_narrow_terminal_never_cuts_a_number(tmp_path: Path, width: int) -> None:
    study = measured(tmp_path, grid="long_tail", conditions=synthetic.LEVELS, figure="curve")
    for table in build_tables(study)[:2]:
        text = shown(table, width)
        assert "\u2026" not in text
        assert text.count("(n=3)") == len(table.cells)


def test_commands_in_the_terminal_are_never_broken(tmp_path: Path) -> None:
    plan = synthetic.study()
    frame = synthetic.fail(plan, synthetic.records(plan), "dnc", "curated", [0])
    table = build_tables(read(synthetic.write(tmp_path, plan, frame)))[0]
    assert len(table.footnotes[0].rerun) > 60
    assert table.footnotes[0].rerun in shown(table, 60)


def test_latex_carries_its_provenance(tmp_path: Path) -> None:
    study = measured(tmp_path)
    table = build_tables(study)[0]
    comments = [line for line in latex(table).splitlines() if line.startswith("%")]
    assert any(study.study.command in line for line in comments)
    for key in table.cells["dnc", "curated"].keys:
        assert sum(key in line for line in comments) == 1


def test_escapes() -> None:
    assert escape_latex("a_b & 50%\n$") == r"a\_b \& 50\% \$"
    assert escape_markdown("a|b_c*<i>\n`") == r"a\|b\_c\*&lt;i>" + r" \`"
    assert [mark(i) for i in (0, 25, 26, 27)] == ["a", "z", "aa", "ab"]


def test_commands_merge_when_only_rows_and_seeds_differ() -> None:
    commands = [f"run a=1 grid.methods=[{row}] grid.seeds=[{seed}]"
                for row, seed in (("x", 0), ("y", 0), ("x", 2))]
    assert merged(commands) == "run a=1 grid.methods=[x,y] grid.seeds=[0,2]"
    assert merged(commands[:1]) == commands[0]
    assert merged(["run a=1", "run a=2"]) == "run a=1; run a=2"
    assert merged(["run $x`y` grid.methods=[]"]) == "run $x`y` grid.methods=[]"


def hostile(tmp_path: Path) -> list[Table]:
    plan = synthetic.study(title=HOSTILE, command=f"sweep {HOSTILE}\n\\input{{x}}")
    plan["methods"][0]["label"] = plan["conditions"][1]["label"] = HOSTILE
    frame = synthetic.fail(plan, synthetic.records(plan), "dnc", "curated", [0, 1, 2])
    plan["failures"][0]["cause"] = f"{HOSTILE}\n\\end{{table}}"
    return build_tables(read(synthetic.write(tmp_path, plan, frame)))


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles_whatever_the_labels(tmp_path: Path) -> None:
    wide = measured(tmp_path / "wide", conditions=synthetic.LEVELS, figure="curve")
    tables = [*hostile(tmp_path)[:2], *build_tables(wide)[:2]]
    body = "\n".join(latex(table) for table in tables)
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs,graphicx,"
        f"textcomp}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
                          cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


def test_hostile_labels_keep_the_columns(tmp_path: Path) -> None:
    for table in hostile(tmp_path)[:2]:
        rows = [line for line in markdown(table).splitlines() if line.startswith("| ")]
        bars = {line.replace(r"\|", "").count("|") for line in rows}
        assert len(rows) > 5 and bars == {len(table.columns) + 2}
        parsed = list(csv.reader(io.StringIO(tidy_csv(table))))
        assert len({len(line) for line in parsed}) == 1 and len(parsed) == len(table.cells) + 1
        assert all(line.startswith("%") for line in latex(table).splitlines()[:3])


def test_csv_is_exact(tmp_path: Path) -> None:
    table = build_tables(measured(tmp_path))[0]
    for row in csv.DictReader(io.StringIO(tidy_csv(table))):
        cell = table.cells[row["method"], row["condition"]]
        assert float(row["mean"]) == float(cell.estimate.mean)
        assert row["seeds"] == "0 1 2" and row["status"] == "complete"


def refused(tmp_path: Path, change: Any) -> str:
    plan = synthetic.study()
    frame = change(synthetic.records(plan))
    folder = synthetic.write(tmp_path, plan, frame)
    with pytest.raises(UserError) as caught:
        read(folder)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_records_that_cannot_be_averaged_are_refused_by_name(tmp_path: Path) -> None:
    def edited(frame: Any) -> Any:
        frame.loc[3, "value"] = 81.2
        return frame

    def mixed(frame: Any) -> Any:
        frame.loc[frame["method"] == "dnc", "protocol"] = "other"
        return frame

    def doubled(frame: Any) -> Any:
        return type(frame)(frame.loc[[*frame.index, 7]].reset_index(drop=True))

    assert "simclr / curated / seed 0 / linear medium has value 81.2" in refused(tmp_path, edited)
    message = refused(tmp_path, mixed)
    assert "2 protocols" in message and "other" in message and "dnc" in message
    assert "recorded more than once" in refused(tmp_path, doubled)
    assert "lacks protocol" in refused(tmp_path, lambda frame: frame.drop(columns="protocol"))


def test_foreign_records_and_mixed_origins_are_said(tmp_path: Path) -> None:
    plan = synthetic.study()
    frame = synthetic.records(plan)
    frame.loc[0, "evaluate_key"] = "made under another configuration"
    frame.loc[5, "git_commit"] = "0" * 40
    notes = read(synthetic.write(tmp_path, plan, frame)).notes
    assert any(note.startswith("1 records belong to no cell") for note in notes)
    assert any("2 commits" in note for note in notes)


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path, synthetic.study(), synthetic.records(synthetic.study()))
    (folder / "records.parquet").write_bytes(b"PAR1 not a parquet file")
    with pytest.raises(UserError, match="not readable"):
        read(folder)
    path = folder / "study.json"
    for damage, message in (("{", "damaged"), ("[]", "damaged"), ("{}", "lacks 'axis'")):
        path.write_text(damage)
        with pytest.raises(UserError, match=message):
            read_study(path)
    with pytest.raises(UserError, match="does not exist"):
        read_study(tmp_path / "study.json")


def test_a_study_without_records_is_all_missing(tmp_path: Path) -> None:
    plan = synthetic.study(methods=("dnc", "moclr"))
    folder = synthetic.write(tmp_path, plan, synthetic.records(plan).iloc[:0])
    tables = build_tables(read(folder))
    assert len(tables) == 4
    assert all(cell.estimate.missing for table in tables for cell in table.cells.values())
