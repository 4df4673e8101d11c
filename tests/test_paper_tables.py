"""The papers' tables as data: complete, nothing invented, refused by name where they are wrong."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, door

from datasets.recipes import RECIPES, View
from harness.evaluation import evaluations
from harness.flops import cost
from harness.papers import FOLDER, PaperTable, cell, label, locate, tables
from harness.peers import peers
from methods.dnc import dnc
from methods.options import resolve
from methods.registry import discover

SHARED = Path(os.environ.get("CURATION_GAP_SHARED", ROOT.parent / "shared")) / "paper_tables"
TABLES = tables()
# Published numbers and their sum: an edit of a number shows without the notes they were taken from.
CELLS = {
    "cld/cifar_moco": (6, 399.6), "cld/cifar_npid": (6, 422.2),
    "cld/imagenet_infomin": (5, 349.1), "cld/imagenet_mocov2": (3, 206.7),
    "dnc/figure1": (2, 131.5), "dnc/figure3": (6, 11008), "dnc/figure6": (6, 1087.4),
    "dnc/table1": (9, 726.6), "dnc/table2": (12, 8520), "dnc/table3": (40, 2434.7),
    "dnc/table4": (78, 5586.2), "dnc/table5": (84, 4472.475), "dnc/table6": (18, 435.31),
    "dnc/table7": (18, 893.2), "dnc/table8": (9, 448.4), "dnc/table9": (32, 2431.7),
    "dnc/table10": (3, 223.2), "dnc/table11": (4, 301.1), "dnc/table12": (20, 8.5),
    "dnc/table13": (4, 113.2), "dnc/table14": (3, 73), "dnc/table15": (10, 440.6),
    "dnc/table16": (9, 344.5), "dnc/table17": (35, 2701.4), "dnc/table18": (5, 375.2),
    "dnc/table19": (2, 151.2), "dnc/table20": (16, 1230.1), "dnc/table21": (208, 14724.9),
    "dnc/table22": (240, 12791.114), "dnc/text": (22, 1281758.8),
    "fnc/baselines_with_fn_cancel": (9, 420.02), "fnc/figure_aggregation": (24, 1612.53),
    "fnc/figure_crop_lower_bound": (10, 661.24), "fnc/figure_support": (13, 862.98),
    "fnc/figure_threshold": (10, 390.1), "fnc/figure_topk_threshold": (12, 806.53),
    "fnc/imagenet_linear": (16, 1229.6), "fnc/imagenet_semi_supervised": (6, 436.6),
    "fnc/table1": (5, 204.77), "fnc/table2": (10, 231.74), "fnc/text": (2, 45.8),
    "fnc/transfer_classification": (104, 8359.1),
}
# Where the notes' names are not ours.
RENAMED = {"table_1_elimination_vs_attraction": "table1", "table_2_multicrop_and_cost": "table2"}


ROLES = ("curated", "uncurated", "canine")


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def test_every_table_has_its_cells() -> None:
    assert len(TABLES) == len(CELLS) == 42
    assert sum(name.startswith("dnc/table") for name in TABLES) == 22
    found = {name: (len(t.cells), round(sum(c.value for c in t.cells), 3))
             for name, t in TABLES.items()}
    assert found == CELLS and sum(n for n, _ in found.values()) == 1136


def test_every_cell_can_be_filled_or_says_why_not() -> None:
    cells = [c for t in TABLES.values() for c in t.cells]
    assert sum(c.fill is not None for c in cells) > 100
    assert all((c.fill is None) == bool(c.why_not) and c.source and c.unit for c in cells)


def test_private_images_name_their_stand_in() -> None:
    rows = [(t, r) for t in TABLES.values() for r in t.rows if "JFT-300M is private" in r.why_not]
    assert len(rows) > 25
    assert all(r.fill is None and (r.stand_in or "nothing stands in" in r.why_not) for _, r in rows)


@pytest.mark.parametrize(("words", "count"), [
    ("is swapped between tables 5 and 22", 4), ("36,7", 1), ("73.9 - 74.3 = -0.4", 2),
    ("69.3 where it is quoted", 3), ("must be bits", 1), ("divided by MoCLR-1k", 1)])
def test_misprints_and_contradictions_are_noted_at_the_row(words: str, count: int) -> None:
    notes = [r.note for t in TABLES.values() for r in t.rows if r.note]
    assert sum(words in note for note in notes) == count


def test_a_published_difference_is_that_of_the_published_cells_or_noted() -> None:
    found = [c for t in TABLES.values() for c in t.cells if c.parts]
    noted = 0
    for difference in found:
        minuend, subtrahend = (TABLES[name].by_place[at].value
                               for name, at in (locate(TABLES, part) for part in difference.parts))
        digits = max(1, len(f"{difference.value:g}".partition(".")[2]))
        if round(minuend - subtrahend, digits) != difference.value:
            assert "the difference is -0.5 here" in difference.note, difference
            noted += 1
    assert len(found) == 38 and noted == 1
    assert all(c.derived == "difference" and c.fill is None and "minus" in c.why_not
               for c in found)


def test_epochs_that_no_paper_states_are_marked_as_ours() -> None:
    found = [(name, c) for name, t in TABLES.items() for c in t.cells if c.assumed]
    counts = Counter(name for name, _ in found)
    assert counts == {"dnc/table5": 12, "dnc/table6": 18, "dnc/table9": 28,
                      "dnc/table20": 16, "dnc/table22": 12, "fnc/imagenet_linear": 12,
                      "fnc/imagenet_semi_supervised": 2, "fnc/transfer_classification": 72}
    assert all(re.fullmatch(r"\d+ assumed: \S.{8,}", c.assumed) for _, c in found)
    assert all(str(c.fill["epochs"]) == c.assumed.split()[0] for _, c in found if c.fill)
    # no row has both: what a paper states is never assumed
    rows = [(t, r) for t in TABLES.values() for r in t.rows if r.assumed or t.assumed]
    assert len(rows) == 35
    assert all("epochs" not in {**(r.fill or {}), **r.cells} for _, r in rows)
    assert TABLES["dnc/table9"].by_place[4, "top1_1"].why_not.endswith("this cell: epochs")


SAME = "a setting of the method, not a measurement; "


def test_table_2_is_the_schedule_of_dnc() -> None:
    table = TABLES["dnc/table2"]
    for row in table.rows:
        name, *published = row.cells.values()
        options, problems = resolve(discover()["dnc"].options, {"schedule": str(name)}, "dnc")
        last = dnc(float(name), options)
        base, *experts = last.teachers
        ours = (base.epochs, experts[0].epochs, len(experts), last.epochs)
        assert not problems and ours == (*published[:2], published[2], published[3])
        assert row.why_not == f"{SAME}dnc has it as schedule={name}, with the same values"
    assert len(table.rows) == 3


def test_table_12_is_the_recipes() -> None:
    views = {"T": RECIPES["byol_t"], "T_prime": RECIPES["byol_t_prime"]}
    compared = 0
    for row in TABLES["dnc/table12"].rows:
        name = re.fullmatch(re.escape(SAME) + r"here (\w+), with the same values", row.why_not)
        for column, view in views.items():
            if name:
                assert getattr(view, name[1]) == row.cells[column], (row.why_not, column)
                compared += 1
            else:  # the crop has no probability
                assert row.why_not == f"{SAME}here every view is cropped"
                assert view.crop_min < 1 and row.cells[column] == 1
    assert compared == 18


def test_figure_3_is_the_heads() -> None:
    methods = discover()
    for row in TABLES["dnc/figure3"].rows:
        named = re.findall("moclr|distil", row.why_not)
        assert named and row.why_not.endswith("hidden_dim and output_dim, with the same values")
        for options in (methods[name].options for name in named):
            assert options["hidden_dim"].default == row.cells["hidden"] == 4096
            assert options["output_dim"].default == row.cells["output"] == 256
        assert row.cells["input"] == {"projector": cost(
            {"name": "resnet50", "stem": "imagenet"}, 224).width, "regressor": 256}[
                row.cells["head"]]


def fills() -> Iterator[tuple[str, Any]]:
    for table in TABLES.values():
        for row in table.rows:
            for fill in (row.fill, row.stand_in):
                if fill is not None:
                    yield f"{table.id} {label(table, row)}", fill
        yield from ((f"{table.id} {c.name}", c.fill) for c in table.columns if c.fill)


def test_fills_name_what_exists() -> None:
    methods, known, wrong = discover(), evaluations(), []
    protocols = yaml.safe_load((ROOT / "harness/conf/sweep.yaml").read_text())["protocols"]
    views = {field.name for field in fields(View)}
    for where, fill in (found := list(fills())):
        if "method" in fill and fill["method"] not in methods:
            wrong.append(f"{where}: method {fill['method']}")
        elif "method" in fill:
            wrong += resolve(methods[fill["method"]].options, fill.get("options", {}), where)[1]
        if "evaluation" in fill:
            name = protocols.get(fill["evaluation"], {}).get("evaluation", fill["evaluation"])
            known[name].configure(fill.get("evaluation_options", {}))
        wrong += [f"{where}: view {name}" for name in fill.get("views", {}) if name not in views]
        role = fill.get("pretrain", {}).get("role", "curated")
        wrong += [f"{where}: role {role}"] if role not in ROLES else []
    assert len(found) > 250 and not wrong


# Against the notes that the numbers were taken from, where those are at hand.

def shared(name: str) -> dict[str, Any]:
    path = SHARED / f"{name}.yaml"
    if not path.is_file():
        pytest.skip(f"the notes are not at hand: no {path.name} in {SHARED}; set "
                    "CURATION_GAP_SHARED to the folder above paper_tables")
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def number(value: Any) -> Any:
    """A printed number: "+1.02" and "~24" are numbers; "~1000" in a key column stays a text."""
    text = re.fullmatch(r"[~+]?(-?\d+(?:\.\d+)?)", value) if isinstance(value, str) else None
    return float(text[1]) if text else value


def numbers(data: Any) -> list[float]:
    """All numbers in nested lists and mappings, in order."""
    if isinstance(data, dict):
        return [n for v in data.values() for n in numbers(v)]
    if isinstance(data, list):
        return [n for v in data for n in numbers(v)]
    return [number(data)] if is_number(number(data)) else []


def own_numbers(table: PaperTable) -> list[float]:
    return [v for row in table.rows for v in row.cells.values() if is_number(v)]


def test_dnc_cell_by_cell() -> None:
    notes = {t["id"]: t for t in shared("dnc")["tables"]}
    ours = {name.split("/")[1]: t for name, t in TABLES.items() if name.startswith("dnc/table")}
    assert len(notes) == 22 and set(notes) == set(ours)
    compared = 0
    for name, note in notes.items():
        table = ours[name]
        assert [c.name for c in table.columns] == note["columns"], name
        assert table.number == f"Table {note['number']}" and table.page == note["page"]
        assert table.caption != note["caption"], name
        for row, published in zip(table.rows, note["rows"], strict=True):
            for column in table.columns:
                wanted = published[column.name]
                wanted = number(wanted) if column.kind == "value" else wanted
                assert row.cells[column.name] == wanted, f"{name} {label(table, row)} {column}"
                compared += column.kind == "value" and wanted is not None
            assert row.source == published["source"]
            if "cited_by_authors" in published:
                assert (row.measured_by == "quoted") == published["cited_by_authors"]
    assert compared == sum(n for name, (n, _) in CELLS.items() if name.startswith("dnc/table"))
    assert compared == 859


def test_dnc_figures_and_text() -> None:
    notes = shared("dnc")
    figures = {f["id"]: f for f in notes["figures"]}
    assert numbers([p["top1"] for p in figures["figure1"]["points"]]) == [
        c.value for c in TABLES["dnc/figure1"].cells]
    seen = {float(n) for n in re.findall(r"\d+\.?\d*", figures["figure3"]["what"])}
    assert {c.value for c in TABLES["dnc/figure3"].cells} == {2048, 4096, 256} <= seen
    blocks = re.findall(r"\d+", figures["figure6"]["what"].split("as about")[1])
    assert [c.value for c in TABLES["dnc/figure6"].cells] == [87.4, *map(float, blocks)]
    text = " ".join(c["claim"] for c in notes["text_claims"])
    stated = [c.value for c in TABLES["dnc/text"].cells]
    assert len(stated) == 22 and all(f"{abs(v):g}" in text or str(abs(v)) in text for v in stated)
    elsewhere = " ".join(c["item"] for c in notes["cross_source_checks"])
    for statement in peers()["statements"]:
        assert all(str(statement[k]) in elsewhere for k in ("low", "high", "value")
                   if k in statement)


@pytest.mark.parametrize(("paper", "count"), [("fnc", 6), ("cld", 4)])
def test_fnc_and_cld_in_order(paper: str, count: int) -> None:
    notes = shared(paper)["tables"]
    assert len(notes) == count
    for note in notes:
        table = TABLES[f"{paper}/{RENAMED.get(note['id'], note['id'])}"]
        body = note.get("values") or note.get("rows") or note["blocks"]
        body = [r["row"] if isinstance(r, dict) else r for r in body] if "rows" in note else body
        assert own_numbers(table) == numbers(body) != [], table.id
        assert table.caption != note["caption"]


def test_fnc_rows_are_named_as_published() -> None:
    notes = {t["id"]: t for t in shared("fnc")["tables"]}
    transfer = [[block, r[0]] for block, rows in notes["transfer_classification"]["blocks"].items()
                for r in rows]
    linear = [r[:2] for r in notes["imagenet_linear"]["rows"]]
    for name, published in (("transfer_classification", transfer), ("imagenet_linear", linear)):
        table = TABLES[f"fnc/{name}"]
        found = [list(table.key(row)) for row in table.rows]
        assert found == [[a, b.replace(" (ours)", "")] for a, b in published]


def test_fnc_figures_in_order() -> None:
    notes = shared("fnc")["figures_digitised"]
    assert len(notes) == 5
    for note in notes:
        table = TABLES["fnc/" + note["id"].replace("fig_", "figure_")]
        assert [c.value for c in table.cells] == numbers(note["approx"]), table.id
        assert all(c.approximate for c in table.cells)
        if "xs" in note:
            assert [table.key(r)[1] for r in table.rows] == note["xs"] * 2
    assert [c.value for c in TABLES["fnc/text"].cells] == [40, 5.8]


def test_peers_are_all_there_and_none_is_invented() -> None:
    notes, ours = shared("peers"), peers()

    def canonical(results: list[Any]) -> Counter[str]:
        return Counter(json.dumps(r, sort_keys=True) for r in results)

    assert len(ours["results"]) == len(notes["results"]) == 497
    assert canonical(ours["results"]) == canonical(notes["results"])
    assert ours["commits"] == notes["commits"] and set(ours["caveats"]) == set(notes["caveats"])
    published = list(notes["cross_implementation_spread"].values())[1:]
    found = [[(e["top1"], e.get("sd")) for e in rows] for rows in ours["spread"].values()]
    wanted = [[tuple(map(float, v.split(" +- "))) if isinstance(v, str) else (v, None)
               for v in method.values()] for method in published]
    assert found == wanted and sum(map(len, found)) == 32


def test_peers_spread_names_methods() -> None:
    spread = peers()["spread"]
    assert len(spread) == 6 and set(spread) <= set(discover())


# What is refused, and how.

# What is put before the fill of row 3; alone it is right.
MOCLR = "  fill: {method: moclr"
DIFFERENCE = ("  differences: {places365_top1: [imagenet_top1, "
              "'dnc/table3:YFCC100M,DnC,R-50,3000:imagenet_top1']}\n")


def edited(folder: Path, old: str, new: str) -> Path:
    text = (FOLDER / "dnc/table3.yaml").read_text()
    if old == DIFFERENCE:
        old, new = MOCLR, new + MOCLR
    assert old in text
    (folder / "dnc").mkdir(exist_ok=True)
    (folder / "dnc/table3.yaml").write_text(text.replace(old, new, 1))
    return folder


@pytest.mark.parametrize(("old", "new", "message"), [
    ("3000, 67.8,", "3000, '67,8',", "row 7: imagenet_top1 is '67,8', not a number"),
    ("3000, 67.8,", "67.8,", "row 7 has 5 cells for 6 columns"),
    ("  source: dnc_arxiv_v1 Table 3 (p.5)\n", "", "row 1 lacks source"),
    ("  source: dnc_arxiv_v1 Table", "  source: hearsay Table", "source 'hearsay'"),
    ("  measured_by: quoted", "  measured_by: nobody", "measured_by is 'nobody'"),
    ("  measured_by: quoted", "  mesured_by: quoted", "key 'mesured_by'"),
    ("[YFCC100M, MoCLR, R-50, 1000,", "[YFCC100M, BYOL, R-50, 1000,", "the key cells of row 3"),
    ("unit: '%'\n", "", "lacks unit"),
    ("kind: key", "kind: index", "kind is 'index'"),
    ("{method: moclr,", "{methode: moclr,", "key 'methode'"),
    ("  fill: null\n", "  fill: {method: swav}\n", "either fill or"),
    ("id: dnc/table3", "id: dnc/table4", "is not its place"),
    ("rows:", "rows: [", "no YAML"),
    ("3000, 67.8,", "3000, .nan,", "row 7: imagenet_top1 is 'nan', not a number"),
    ("{schedule: '3000'}", "3000", "row 7: fill: options: a mapping is expected"),
    ("  fill: {method: moclr", "  assumed: {epochs: many, why: none}\n  fill: {method: moclr",
     "row 3: assumed: state a number of epochs, and why"),
    (DIFFERENCE, DIFFERENCE.replace("places365_top1:", "places:"), "column 'places'"),
    (DIFFERENCE, DIFFERENCE.replace("DnC", "DNC"), "row 'YFCC100M,DNC"),
    (DIFFERENCE, DIFFERENCE.replace("dnc/table3", "dnc/table99"), "table 'dnc/table99'"),
    (DIFFERENCE, DIFFERENCE.replace("imagenet_top1, ", ""), "[minuend, subtrahend]"),
    (DIFFERENCE, DIFFERENCE.replace("[imagenet", "[places365"), "is a difference itself"),
])
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, old: str, new: str,
                                             message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        tables(edited(tmp_path, old, new))
    assert "\n" not in str(error.value) and "table3.yaml" in str(error.value)


def test_an_id_is_used_once(tmp_path: Path) -> None:
    edited(tmp_path, "Table 3", "Table 3")
    (tmp_path / "dnc/table4.yaml").write_text((tmp_path / "dnc/table3.yaml").read_text())
    with pytest.raises(ValueError, match=r"dnc/table4.yaml: id 'dnc/table3' is taken"):
        tables(tmp_path)


def test_absent_tables_are_said_to_be_absent(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no paper tables in"):
        tables(tmp_path)
    with pytest.raises(ValueError, match="is absent"):
        peers(tmp_path)


def test_a_cell_by_row_and_column() -> None:
    table = TABLES["dnc/table3"]
    found = cell(table, "YFCC100M,DnC,4500", "imagenet_top1")
    assert (found.value, found.unit, found.measured_by) == (68.5, "%", "authors")
    assert found == cell(table, 9, "imagenet_top1") and found.fill is not None
    assert found.fill["method"] == "dnc" and found.fill["evaluation"] == "linear_images"
    for row, column, message in (("DnC", "imagenet_top1", "is 6 rows"), (99, "imagenet_top1", "99"),
                                 ("nothing", "imagenet_top1", "row 'nothing'"),
                                 (0, "places365_top1", "empty in the paper"), (0, "top9", "top9")):
        with pytest.raises(ValueError, match=message):
            cell(table, row, column)


def test_the_listing() -> None:
    done = door("harness.list", "tables")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 42, done.stderr
    assert "(40 cells, 16 can be filled)" in done.stdout
    done = door("harness.list", "tables", "name=dnc/table3")
    assert re.search(r"YFCC100M +DnC +R-50 +4500 +68\.5 +54\.4", done.stdout), done.stderr
    done = door("harness.list", "tables", "name=dnc/table33")
    assert done.returncode == 2 and "dnc/table3" in done.stderr
