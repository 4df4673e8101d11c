"""A paper's table with planted records: verdicts, all formats, the section of the page."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic

from harness.html import page
from harness.measured import Measured, read
from harness.paper_layout import CSV_COLUMNS, latex, markdown, sheet, summary, terminal, tidy_csv
from harness.paper_results import PaperResult, paper_results
from harness.papers import tables
from harness.report import write_report

TABLES = tables()
# row of dnc/table3 -> method, and ours minus published, in points
PLANTED = {2: ("moclr-1000", 0.0), 4: ("moclr-3000", 3.0), 6: ("dnc-3000", -4.0)}
STAND_IN = 12


def plan(scale: str = "paper") -> dict[str, Any]:
    methods = [name for name, _ in PLANTED.values()] + ["dnc-1000"]
    data = synthetic.study("dnc-table3", methods=methods, evaluations=("linear_images@imagenet",),
                           conditions=[{"id": "yfcc100m", "label": "yfcc100m", "level": None,
                                        "role": "uncurated"}],
                           command="python -m harness.sweep table=dnc/table3 scale=paper")
    data["scale"], data["headline"]["metric"] = scale, "top1"
    differs = [] if scale == "paper" else [f"scale: {scale}"]
    asked = {**{row: name for row, (name, _) in PLANTED.items()}, STAND_IN: "dnc-1000"}
    cells = []
    for name, column in (("dnc/table3", "imagenet_top1"), ("dnc/table4", "food101")):
        table, found = TABLES[name], []
        for i, row in enumerate(table.rows):
            for value in (c.name for c in table.columns if c.kind == "value"):
                told: dict[str, Any] = {"row": i, "column": value}
                if (name, value) == ("dnc/table3", column) and i in asked:
                    told |= {"method": asked[i], "condition": "yfcc100m", "metric": "top1",
                             "evaluation": "linear_images@imagenet", "budget": 3000.0,
                             "group": "yfcc100m", "differs": differs}
                    if i == STAND_IN:
                        told["differs"] = ["data: JFT-300M is private; yfcc100m stands in"]
                elif row.cells[value] is not None:
                    told["reason"] = "a planted reason with 100 % of _TeX_ & <markup>"
                found.append(told)
        cells.append((name, found))
    data["papers"] = {name: {"note": "as published", "cells": found} for name, found in cells}
    return data


def records(data: dict[str, Any]) -> pd.DataFrame:
    frame = synthetic.records(data)
    frame = frame[frame["metric"] == "top1"].reset_index(drop=True)
    wobble = frame["seed"].map({0: -0.001, 1: 0.0, 2: 0.001})
    published = {name: TABLES["dnc/table3"].rows[row].cells["imagenet_top1"] + shift
                 for row, (name, shift) in PLANTED.items()} | {"dnc-1000": 60.0}
    frame["value"] = frame["method"].map(published) / 100 + wobble
    return frame


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    data = plan()
    return read(synthetic.write(tmp_path_factory.mktemp("paper"), data, records(data)))


@pytest.fixture(scope="module")
def results(study: Measured) -> list[PaperResult]:
    return paper_results(study)


def test_verdicts_come_out_as_planted(results: list[PaperResult]) -> None:
    three = results[0].results
    names = {row: three[row, "imagenet_top1"].verdict.name for row in (*PLANTED, STAND_IN, 0)}
    assert names == {2: "reproduced", 4: "above", 6: "below", STAND_IN: "not comparable",
                     0: "missing"}
    for row, (_, shift) in PLANTED.items():
        found = three[row, "imagenet_top1"]
        assert found.verdict.delta == pytest.approx(shift) and found.verdict.n == 3
        assert len(found.keys) == 3 and found.verdict.slack > 0.5
    assert three[STAND_IN, "imagenet_top1"].verdict.why == (
        "data: JFT-300M is private; yfcc100m stands in",)


def test_every_published_number_is_there_and_none_else(results: list[PaperResult]) -> None:
    for result in results:
        cells = result.table.cells
        assert [found.cell for found in result.results.values()] == list(cells) != []


def test_directions_are_those_of_our_numbers(results: list[PaperResult]) -> None:
    signs = {(d.row.split(",")[1], d.base.split(",")[1], round(d.published, 1)): d.agrees
             for d in results[0].directions["imagenet_top1"]}
    # published 65.1, 65.7, 67.8; ours 65.1, 68.7, 63.8
    assert signs == {("MoCLR", "MoCLR", 0.6): True, ("DnC", "MoCLR", 2.7): False,
                     ("DnC", "MoCLR", 2.1): False}
    assert results[0].agreement == (1, 3, 3)


def test_a_small_scale_is_never_compared(tmp_path: Path) -> None:
    data = plan("smoke")
    found = paper_results(read(synthetic.write(tmp_path, data, records(data))))[0]
    verdicts = {found.results[row, "imagenet_top1"].verdict.name for row in PLANTED}
    assert verdicts == {"not comparable"}
    assert "twin at smoke scale" in sheet(found).title


def test_the_papers_layout(results: list[PaperResult]) -> None:
    narrow, wide = sheet(results[0]), sheet(results[1])
    assert narrow.header[:6] == ("pretrain", "method", "arch", "epochs",
                                 "imagenet_top1 published", "imagenet_top1 ours")
    assert narrow.body[2][0][4:7] == ("65.1", "65.1 ± 0.2 (n=3)", "0.0")
    assert narrow.body[0][0][4] == "61.6*" and narrow.body[0][0][5] == "--"
    assert wide.header[:4] == ("pretrain", "model", "", "food101")
    assert [line[2] for line in wide.body[0]] == ["published", "verdict"]
    assert all(len(line) == len(wide.header) for group in wide.body for line in group)


def test_markdown_and_csv(results: list[PaperResult]) -> None:
    for result in results:
        bars = {line.count(" | ") for line in markdown(result).splitlines()
                if line.startswith("| ")}
        assert len(bars) == 1
        rows = list(csv.reader(io.StringIO(tidy_csv(result))))
        assert rows[0] == list(CSV_COLUMNS) and len(rows) == len(result.table.cells) + 1
        assert {len(row) for row in rows} == {len(CSV_COLUMNS)}
    assert summary(results).startswith("118 published cells: ")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(results: list[PaperResult], tmp_path: Path) -> None:
    body = "\n".join(latex(result) for result in results)
    assert "% made by: python -m harness.sweep table=dnc/table3" in body
    assert re.search(r"^% YFCC100M,DnC,R-50,3000 / imagenet_top1: seeds 0 1 2: [0-9a-f]{64}",
                     body, re.M)
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs,graphicx,"
        f"textcomp}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
                          cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


def test_the_terminal_cuts_nothing(results: list[PaperResult]) -> None:
    from rich.console import Console

    for width in (60, 100, 200):
        console = Console(width=width, record=True, file=io.StringIO())
        for result in results:
            console.print(terminal(result, width), crop=False)
        text = console.export_text()
        assert "…" not in text and "65.1 ± 0.2 (n=3)" in text and "reproduced" in text


def test_the_section_of_the_page(study: Measured) -> None:
    document = page(study, [], {})
    assert document == page(study, [], {})
    assert 'id="papers"' in document and "65.1 ± 0.2 (n=3)" in document
    assert document.count('data-runs="') == len(PLANTED) + 1
    assert "<markup>" not in document and "&lt;markup&gt;" in document


def test_a_report_from_records_alone(tmp_path: Path) -> None:
    data = plan()
    folder = synthetic.write(tmp_path, data, records(data))
    files = {str(path.relative_to(folder)) for path in write_report(folder)}
    assert files == {"report.html", *(f"tables/paper-dnc-table{n}{suffix}" for n in (3, 4)
                                      for suffix in (".md", ".tex", ".csv")),
                     *(f"figures/paper-dnc-table3-imagenet_top1.{suffix}"
                       for suffix in ("png", "pdf", "svg"))}


def test_a_difference_is_paired_by_seed_and_never_of_a_part(tmp_path: Path) -> None:
    data = plan()
    asked = {"evaluation": "linear_images@imagenet", "metric": "top1", "condition": "yfcc100m"}
    entries = {"dnc/table3": [{"row": 2, "column": "imagenet_top1", "method": "moclr-1000",
                               "differs": ["data: planted"], **asked},
                              {"row": 6, "column": "imagenet_top1", "method": "dnc-3000", **asked}],
               "dnc/text": [{"row": 6, "column": "value", "derived": "planted"}]}
    data["papers"] = {name: {"note": "as published", "cells": cells}
                      for name, cells in entries.items()}
    frame = records(data)
    frame = frame[~((frame["method"] == "moclr-1000") & (frame["seed"] == 1))]
    found = paper_results(read(synthetic.write(tmp_path, data, frame)))[1]
    own = found.results[6, "value"]
    # ours are 67.8 - 4.0 and 65.1; the published difference is 2.7
    assert own.values == pytest.approx({0: -1.3, 2: -1.3}) and own.ours.n == 2
    assert own.verdict.name == "not comparable" and own.verdict.why == ("data: planted",)
    assert own.verdict.delta == pytest.approx(-4.0)
    assert "-1.3 ± 0.0 (n=2)" in markdown(found) and " | -4.0 | " in markdown(found)
    other = found.results[4, "value"]  # MoCLR-3k was not asked
    assert other.verdict.name == "missing" and math.isnan(other.verdict.delta)
    frame = frame[frame["method"] != "dnc-3000"]
    found = paper_results(read(synthetic.write(tmp_path, data, frame)))[1]
    assert found.results[6, "value"].verdict.why == (
        "dnc/table3:YFCC100M,DnC,R-50,3000:imagenet_top1: not run yet",)


def test_a_mean_of_columns_is_of_all_of_them_or_none(tmp_path: Path) -> None:
    data = plan()
    table = TABLES["dnc/table4"]
    columns = [c.name for c in table.columns if c.kind == "value" and not c.derive]
    cells = [{"row": row, "column": name, "method": "dnc-3000", "condition": "yfcc100m",
              "evaluation": "linear_images@imagenet", "metric": "top1"}
             for row in (0, 1) for name in columns if (row, name) != (1, "pets")]
    data["papers"] = {"dnc/table4": {"note": "as published", "cells": cells}}
    found = paper_results(read(synthetic.write(tmp_path, data, records(data))))[0].results
    ours = [found[0, name].ours.mean for name in columns]
    assert len(ours) == 12 and found[0, "average"].ours.mean == pytest.approx(sum(ours) / 12)
    assert found[0, "average"].verdict.n == 3 and found[1, "average"].verdict.name == "missing"
