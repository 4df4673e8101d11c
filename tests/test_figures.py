from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic

from harness import figures, palette
from harness.measured import Measured, read
from harness.tables import build_tables


def measured(tmp_path: Path, missing: bool = False, **overrides: Any) -> Measured:
    plan = synthetic.study(**overrides)
    frame = synthetic.records(plan)
    if missing:
        last = plan["conditions"][-1]["id"]
        frame = synthetic.fail(plan, frame, "byol", last, plan["seeds"])
    return read(synthetic.write(tmp_path, plan, frame))


def draw(study: Measured) -> dict[str, bytes]:
    return figures.draw_all(study, build_tables(study))


def drawn(study: Measured) -> Any:
    """The matplotlib figure of the headline, and its texts."""
    from harness.figures_curve import curve
    from harness.figures_gap import gap

    with figures.style():
        make = curve if study.study.figure == "curve" else gap
        tables = [t for t in build_tables(study) if (t.evaluation, t.metric) == ("linear",
                                                                                 "balanced")]
        figure = make(study.study, *(tables if len(tables) == 2 else (tables[0], None)))
        figure.canvas.draw()
        return figure


CURVE: dict[str, Any] = {"grid": "long_tail", "conditions": synthetic.LEVELS, "figure": "curve"}


@pytest.mark.parametrize("overrides", [{}, CURVE], ids=["gap", "curve"])
def test_three_formats_for_every_evaluation(tmp_path: Path, overrides: dict[str, Any]) -> None:
    files = draw(measured(tmp_path, **overrides))
    kind = overrides.get("figure", "gap")
    assert sorted(files) == sorted(
        f"figures/{kind}-{evaluation}-balanced.{suffix}"
        for evaluation in ("linear", "knn") for suffix in ("pdf", "png", "svg"))
    for name, content in files.items():
        start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[name[-3:]]
        assert content.startswith(start) and len(content) > 5_000


def test_bytes_are_the_same_every_time(tmp_path: Path) -> None:
    study = measured(tmp_path, evaluations=("linear",))
    assert draw(study) == draw(study)


def test_no_date_no_type3_font_and_200_dpi(tmp_path: Path) -> None:
    files = draw(measured(tmp_path, evaluations=("linear",)))
    pdf = next(content for name, content in files.items() if name.endswith("pdf"))
    streams = [zlib.decompressobj().decompress(part.split(b"\nendstream")[0])
               for part in re.split(rb"stream\r?\n", pdf)[1:] if part.startswith(b"\x78")]
    assert streams and b"/CreationDate" not in pdf
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    png = next(content for name, content in files.items() if name.endswith("png"))
    width = int.from_bytes(png[16:20], "big")
    assert width == round(figures.WIDTH * 200)


def test_no_global_state_is_left(tmp_path: Path) -> None:
    import matplotlib
    import seaborn
    from matplotlib import pyplot

    assert seaborn.__version__  # its import sets things of its own; we must add nothing
    before = dict(matplotlib.rcParams)
    draw(measured(tmp_path, evaluations=("linear",)))
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


CASES: dict[str, dict[str, Any]] = {
    "gap": {}, "curve": CURVE, "one method": {"methods": ("dnc",), "seeds": (0,)},
    "missing": {"missing": True}, "missing level": CURVE | {"missing": True},
    "references only": CURVE | {"methods": synthetic.REFERENCES},
    "two seeds": {"seeds": (0, 1)},
    "four conditions": {"conditions": [
        *synthetic.GAP, {"id": "lt", "label": "long tail, factor 100", "level": None, "role": None},
        {"id": "nd", "label": "near duplicates", "level": None, "role": "uncurated"}]},
    "one condition": {"conditions": synthetic.GAP[:1]},
    "one level": CURVE | {"conditions": synthetic.LEVELS[:1]},
    "many": {"methods": (*synthetic.TRUTH, *(f"method_{i}" for i in range(9)))},
}


@pytest.mark.parametrize("case", list(CASES))
def test_text_is_inside_and_does_not_overlap(tmp_path: Path, case: str) -> None:
    figure = drawn(measured(tmp_path, **CASES[case]))
    renderer = figure.canvas.get_renderer()
    boxes = []
    for text in drawn_texts(figure):
        boxes.append((text.get_text(), text.get_window_extent(renderer)))
    assert len(boxes) > 8
    for name, box in boxes:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, f"{name} is clipped"
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, f"{name} is clipped"
    for i, (name, box) in enumerate(boxes):
        for other, second in boxes[:i]:
            shrunk = box.padded(-1.5)
            assert not shrunk.overlaps(second.padded(-1.5)), f"{name!r} lies on {other!r}"


def drawn_texts(figure: Any) -> list[Any]:
    """All texts but the tick labels that lie beyond their axis, which exist undrawn."""
    from matplotlib.axis import Tick
    from matplotlib.text import Text

    ticks = {text for tick in figure.findobj(Tick) for text in tick.findobj(Text)}
    texts = [text for text in figure.findobj(Text) if text not in ticks]
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [label for place, label in zip(axis.get_majorticklocs(),
                                                    axis.get_majorticklabels(), strict=False)
                      if low <= place <= high]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def test_the_caption_says_n_interval_data_and_what_is_missing(tmp_path: Path) -> None:
    study = measured(tmp_path, missing=True)
    caption = " ".join(figures.caption_lines(study.study, build_tables(study)[0]))
    for part in ("n = 3", "95% t interval", study.study.data_label, "paired by seed",
                 "Not measured: BYOL on uncurated"):
        assert part in caption


def test_curves_break_at_a_missing_level(tmp_path: Path) -> None:
    study = measured(tmp_path, missing=True, **CURVE)
    axes = drawn(study).axes[0]
    mark = palette.METHODS["byol"]
    lines = [line for line in axes.lines if line.get_color() == mark.color
             and line.get_marker() == mark.marker]
    assert len(lines) == 1
    assert np.isnan(np.asarray(lines[0].get_ydata(), dtype=float)[-1])


def test_a_method_keeps_its_colour() -> None:
    few = palette.marks(["dnc"], ["supervised"])
    many = palette.marks(["new", "simclr", "dnc", "other"], ["random_init", "supervised"])
    assert few["dnc"] == many["dnc"] and few["supervised"] == many["supervised"]
    assert palette.marks(["new"])["new"] == many["new"]
    assert palette.marks(["MoCoV2"])["MoCoV2"] == palette.METHODS["moco_v2"]


def test_marks_differ_in_colour_and_in_shape() -> None:
    marks = [*palette.METHODS.values(), *palette.OTHERS]
    assert len({m.color for m in marks}) == len({m.marker for m in marks}) == len(marks)
    assert len({m.dash for m in palette.REFERENCES}) == len(palette.REFERENCES)


def luminance(color: str) -> float:
    parts = [int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_colours_are_seen_on_white_and_on_the_dark_page() -> None:
    dark = luminance("#0f1419")
    for mark in (*palette.METHODS.values(), *palette.OTHERS, *palette.REFERENCES):
        assert 1.05 / (luminance(mark.color) + 0.05) >= 3
        assert (luminance(palette.lighter(mark.color)) + 0.05) / (dark + 0.05) >= 3


def test_spread_keeps_order_distance_and_limits() -> None:
    places = [5.0, 5.1, 5.2, 9.0, 0.1]
    moved = figures.spread(places, 1.0, 0.0, 10.0)
    assert np.argsort(moved).tolist() == np.argsort(places).tolist()
    assert np.diff(sorted(moved)).min() >= 1 - 1e-9
    assert min(moved) >= 0 and max(moved) <= 10
    assert figures.spread([1.0, 5.0], 1.0, 0.0, 10.0) == [1.0, 5.0]
    assert figures.spread([], 1.0, 0.0, 1.0) == []
