"""Dots of papers' tables, and the published share beside clusters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic
import test_figures
import test_figures_more

from harness import figures, figures_dots, figures_papers
from harness.figures_clusters import _published
from harness.figures_papers import paper_curves
from harness.measured import Measured, read
from harness.papers import tables

TABLES = tables()
FILLED = [name for name, table in TABLES.items() if any(c.fill or c.stand_in for c in table.cells)]


def of_table(folder: Path, name: str, scale: str) -> Measured:
    """A study that has measured every cell of a table that can be filled, three seeds each."""
    told: list[dict[str, Any]] = []
    wanted: dict[tuple[str, str], float] = {}
    table = TABLES[name]
    positions = {table.key(row): i for i, row in enumerate(table.rows)}
    for cell in table.cells:
        row, fill = positions[cell.key], cell.fill or cell.stand_in
        found: dict[str, Any] = {"row": row, "column": cell.column}
        if fill:
            method = f"{fill['method']}-{row}"
            wanted[method, f"m_{cell.column}"] = min(max(cell.value, 0) / 200, 0.9)
            found |= {"method": method, "condition": "curated", "metric": f"m_{cell.column}",
                      "evaluation": "linear", "differs": [] if scale == "paper" else ["scale"]}
        else:
            found["reason"] = "planted"
        told.append(found)
    plan = synthetic.study(name.replace("/", "-"), methods=list({m for m, _ in wanted}),
                           evaluations=("linear",), conditions=synthetic.GAP[:1])
    plan |= {"scale": scale, "papers": {name: {"note": "planted", "cells": told}}}
    frame = synthetic.records(plan)
    base = frame[frame["metric"] == "top1"]
    parts = [part.assign(metric=metric, value=value + 0.01 * part["seed"])
             for (method, metric), value in wanted.items()
             for part in (base[base["method"] == method],)]
    return read(synthetic.write(folder, plan, pd.concat(parts)))


def drawn(study: Measured) -> Iterator[tuple[str, Any]]:
    with figures.style():
        for name, figure in paper_curves(study):
            figure.canvas.draw()
            yield name, figure


def test_every_table_that_can_be_filled_has_a_figure(tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (figures_papers, figures_dots):
        monkeypatch.setattr(module, "draw", lambda measured, found: found)
    names = {name: [stem for stem, _ in paper_curves(of_table(tmp_path / name, name, "laptop"))]
             for name in FILLED}
    assert len(names) > 25 and all(names.values()), [n for n, found in names.items() if not found]
    assert names["cld/cifar_moco"] == ["paper-cld-cifar_moco"]
    assert names["dnc/table18"] == ["paper-dnc-table18-top1"]  # epochs: a curve


@pytest.mark.parametrize(("name", "scale"), [
    ("cld/cifar_moco", "laptop"), ("dnc/table10", "paper"), ("dnc/table4", "laptop"),
    ("dnc/figure6", "paper")])
def test_published_is_hollow_and_ours_filled(tmp_path: Path, name: str, scale: str) -> None:
    (stem, figure), = drawn(of_table(tmp_path, name, scale))
    assert stem == f"paper-{name.replace('/', '-')}"
    marks = [line for axes in figure.axes for line in axes.lines if line.get_marker() != "None"]
    hollow = [float(line.get_xdata()[0]) for line in marks
              if line.get_markerfacecolor() == "#ffffff"]
    cells = [c for c in TABLES[name].cells if c.fill or c.stand_in or c.column == "average"]
    assert sorted(hollow) == sorted(cell.value for cell in cells) != []
    assert len(marks) == 2 * len(hollow)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert any("twin, laptop" in title for title in titles) == (scale != "paper")
    whole(figure)


def whole(figure: Any) -> None:
    """No text is cut and none lies on another."""
    renderer = figure.canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer))
             for text in test_figures.drawn_texts(figure)]
    assert len(boxes) > 6
    for i, (text, box) in enumerate(boxes):
        inside = figure.bbox.padded(1)
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1, f"{text} is clipped"
        for other, second in boxes[:i]:
            assert not box.padded(-1.5).overlaps(second.padded(-1.5)), f"{text} on {other}"


@pytest.mark.parametrize(("k", "published"), [(5, 87.4), (0, None), (19, None)])
def test_the_published_share_is_that_of_five_clusters(tmp_path: Path, k: int,
                                                      published: float | None) -> None:
    study = test_figures_more.clustered(tmp_path)
    assert study.folder and _published(study, "clusters") is None  # without runs.json
    stages = {key: ["evaluate", 0, 0, {}, 0, 0, ""] for key in study.keys}
    (study.folder / "runs.json").write_text(json.dumps({
        "stages": stages, "params": [{"options": {"k": k}}], "versions": [], "commands": []}))
    assert _published(study, "clusters") == published
    figure, = (found for name, found in test_figures_more.drawn(study) if "clusters" in name)
    panel = [axes for axes in figure.axes if "main cluster" in axes.get_xlabel()]
    lines = [line for line in panel[0].lines if list(line.get_xdata()) == [87.4, 87.4]]
    assert len(panel) == 1 and len(lines) == (published is not None)
