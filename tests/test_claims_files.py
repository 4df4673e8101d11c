"""The sheet of claims as files: LaTeX, its figure, and what two studies share."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import synthetic
import test_figures
from test_claim_tests import PLANTED, results, simulated, write_claims

from harness import claim_sheet, figures
from harness.claim_tests import INCONCLUSIVE, ClaimSheet, claims_sheet
from harness.figures_claims import forest
from harness.palette import VERDICTS


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> ClaimSheet:
    folder = tmp_path_factory.mktemp("planted")
    found = [simulated(folder, grid) for grid in ("curation_gap", "long_tail")]
    return claims_sheet(found, write_claims(folder, *PLANTED))


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles_with_its_provenance(planted: ClaimSheet, tmp_path: Path) -> None:
    first, *others = planted.entries
    hostile = replace(first, claim=replace(first.claim, statement=r"100 % _x_ & ~^ \end{table}."))
    sheet = replace(planted, entries=(hostile, *others))
    body = claim_sheet.latex(sheet)
    assert re.search(r"^% dnc/better / curation_gap-laptop: seeds 0 1 2 3 4 5: [0-9a-f]{64} ", body,
                     re.M)
    assert "% dnc/elsewhere: seeds none: no record" in body and r"\quad DnC - MoCLR" in body
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs,graphicx,"
        f"textcomp}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
                          cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout and (tmp_path / "all.pdf").stat().st_size > 10_000


def test_the_figure_has_every_comparison_in_its_verdicts_colour(planted: ClaimSheet) -> None:
    links = [(entry, link) for entry in planted.entries for link in entry.links]
    assert len(links) > 8
    with figures.style():
        drawn = forest(planted)
        drawn.canvas.draw()
    axes, = drawn.axes
    for name, mark in VERDICTS.items():
        if name == INCONCLUSIVE:
            continue
        found = [line for line in axes.lines
                 if (line.get_color(), line.get_marker()) == (mark.color, mark.marker)]
        means = [float(line.get_xdata()[0]) for line in found]
        assert means == [pytest.approx(100 * float(link.estimate.mean)) for entry, link in links
                         if entry.verdict == name] != []
    boxes = [(text.get_text(), text.get_window_extent(drawn.canvas.get_renderer()))
             for text in test_figures.drawn_texts(drawn)]
    assert sum("(n=6)" in text for text, _ in boxes) == len(links)
    for i, (name, box) in enumerate(boxes):
        assert drawn.bbox.padded(1).x0 <= box.x0 and box.x1 <= drawn.bbox.padded(1).x1, name
        for other, second in boxes[:i]:
            assert not box.padded(-1.5).overlaps(second.padded(-1.5)), f"{name!r} on {other!r}"


def test_a_copied_study_counts_once(tmp_path: Path) -> None:
    folder = results(tmp_path)
    names = ["curation_gap-laptop", "long_tail-laptop"]
    once = claim_sheet.from_results(folder, names)
    shutil.copytree(folder / names[0], folder / "copy-laptop")
    twice = claim_sheet.from_results(folder, [*names, "copy-laptop"])
    assert once.evaluations == twice.evaluations == 2 * 3 * 6 + 6 * 3 * 6
    assert [(e.claim.id, e.family, e.p) for e in once.entries if e.links] == \
        [(e.claim.id, e.family, e.p) for e in twice.entries if e.links] != []
    assert len(once.entries) == len(twice.entries)


def test_cells_of_two_studies_are_told_and_counted_once(tmp_path: Path) -> None:
    folder = results(tmp_path)
    own = pd.read_parquet(folder / "curation_gap-laptop" / "records.parquet")
    plan = json.loads((folder / "curation_gap-laptop" / "study.json").read_text())
    again = own.assign(grid="methods")
    first = again["evaluate_key"].iloc[0]
    again.loc[again["evaluate_key"] == first, "value"] += 0.001
    synthetic.write(folder, {**plan, "grid": "methods"}, again)
    sheet = claim_sheet.from_results(folder, ["curation_gap-laptop", "methods-laptop"])
    assert sheet.evaluations == 36
    assert ("36 evaluations are those of curation_gap-laptop and are counted once; 1 of them were "
            "made twice and differ by up to 0.001.") in sheet.studies[1][2]
