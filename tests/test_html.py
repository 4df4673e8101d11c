from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser
import pytest
import synthetic
from PIL import Image

from harness import figures
from harness.html import made as made_module
from harness.html import markup, page
from harness.html.made import made, packed
from harness.measured import Measured, read
from harness.tables import build_tables

HOSTILE = """<script>alert(1)</script>"'&</td></script><!-- ]]>"""


AXE = Path(__file__).resolve().parent.parent / ".venv" / "axe-core" / "axe.min.js"


def measured(tmp_path: Path, hostile: bool = False) -> Measured:
    plan = synthetic.study(methods=("simclr", "moclr", "dnc", "random_init"))
    frame = synthetic.fail(plan, synthetic.records(plan), "moclr", "uncurated", [1])
    if hostile:
        plan.update({name: HOSTILE for name in ("title", "caption", "note", "command",
                                                "data_label")})
        plan["methods"][0]["label"] = plan["conditions"][0]["label"] = HOSTILE
        for failure in plan["failures"]:
            failure["cause"] = failure["rerun"] = HOSTILE
        frame[["method_label", "hardware", "git_commit"]] = HOSTILE
    return read(synthetic.write(tmp_path, plan, frame))


def beside(folder: Path, study: Measured) -> None:
    """What a store and a sweep leave beside records: how stages were made, cards of the data."""
    stages = {}
    for row in study.records.drop_duplicates("evaluate_key").itertuples():
        stages[row.pretrain_key] = ["pretrain", row.seed, 0, {}, 0, 0, "2026-11-22"]
        stages[row.features_key] = ["features", None, 1, {"encoder": row.pretrain_key}, 0, 0, ""]
        stages[row.evaluate_key] = ["evaluate", row.seed, 2, {"features": row.features_key}, 0, 0,
                                    ""]
    (folder / "runs.json").write_text(json.dumps({
        "stages": stages, "versions": [{"torch": "2.15.0"}], "commands": ["python -m x"],
        "params": [{"training": {"epochs": 8, "lr": 0.3}}, {"split": HOSTILE}, {"k": 5}]}))
    (folder / "cards").mkdir()
    for fingerprint in study.records["data_fingerprint"].unique():
        (folder / "cards" / f"{fingerprint}.json").write_text(json.dumps({
            "source": "photos", "classes_present": 19, "images": {"train": 100, "test": 50},
            "gini": 0.25, "fingerprint": fingerprint}))
        Image.effect_noise((1400, 700), 80).save(folder / "cards" / f"{fingerprint}.png")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    found = measured(tmp_path_factory.mktemp("study"))
    assert found.folder
    beside(found.folder, found)
    return found


@pytest.fixture(scope="module")
def document(study: Measured) -> str:
    tables = build_tables(study)
    return page(study, tables, figures.draw_all(study, tables))


class Tree(HTMLParser):
    """Elements in order, with a check that every one is closed."""

    VOID = {"meta", "br", "link", "img", "input", "use", "path"}

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(document)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_is_well_formed_and_says_where_things_are(document: str) -> None:
    tree = Tree(document)
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(tree.all(landmark)) == 1
    levels = [int(name[1]) for name, _ in tree.elements if re.fullmatch("h[1-6]", name)]
    assert len(levels) > 5 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    headers = tree.all("th")
    assert len(headers) > 20 and all(h.get("scope") in ("row", "col") for h in headers)
    ids = [a["id"] for _, a in tree.elements if a.get("id")]
    assert len(ids) == len(set(ids)) > 50
    targets = [a["href"] or "" for a in tree.all("a") if (a["href"] or "").startswith("#")]
    assert len(targets) > 4 and all(target[1:] in ids for target in targets)


def test_nothing_is_asked_of_a_network(document: str) -> None:
    outside = re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?!#|data:)([a-z]+:[^"')\s]+)""",
                         document)
    assert outside == []
    assert "default-src 'none'" in document


def test_references_inside_figures_lead_somewhere(document: str) -> None:
    svgs = re.findall(r"<svg.*?</svg>", document, re.DOTALL)
    assert len(svgs) == 2
    for svg in svgs:
        ids = set(re.findall(r'\bid="([^"]+)"', svg))
        used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
        assert len(used) > 10 and used <= ids
        assert 'role="img"' in svg and "var(--ink)" in svg and "#1f2328" not in svg


def test_every_number_is_a_button_to_its_runs(study: Measured, document: str) -> None:
    tables = build_tables(study)
    cells = [cell for table in tables for cell in table.cells.values()]
    buttons = [b for b in Tree(document).all("button") if b.get("class") == "cell"]
    assert len(buttons) == sum(not cell.estimate.missing for cell in cells) > 100
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', document)
    assert block
    data = json.loads(block.group(1))
    seed, key = (data["fields"].index(name) for name in ("Seed", "Evaluation key"))
    cell = tables[0].cells["dnc", "uncurated"]
    button = next(b for b in buttons if b["data-title"] == "DnC, uncurated: "
                  "Linear balanced accuracy")
    runs = [pair.split(":") for pair in (button["data-runs"] or "").split()]
    found = [data["strings"][data["columns"][key][int(run)]] for run, _ in runs]
    assert found == list(cell.keys)
    assert [data["strings"][data["columns"][seed][int(run)]] for run, _ in runs] == ["0", "1", "2"]
    assert [float(value) for _, value in runs] == pytest.approx([100 * v for v in cell.values],
                                                                abs=0.006)


def test_the_records_can_be_taken_out_again(study: Measured, document: str) -> None:
    links = {a["download"]: a["href"] or "" for a in Tree(document).all("a") if "download" in a}
    cards = [name for name in links if name.startswith("card-")]
    assert len(links) == 1 + 2 * len(build_tables(study)) + len(cards) and len(cards) == 2
    content = base64.b64decode(links["records.csv"].split(",", 1)[1]).decode()
    assert len(content.splitlines()) == len(study.records) + 1


def test_failures_stand_with_cause_and_command(document: str) -> None:
    text = " ".join(Tree(document).text)
    assert "loss is NaN at step 412 of 780" in text
    assert "grid.methods=[moclr]" in text


def test_the_same_study_gives_the_same_bytes(study: Measured) -> None:
    tables = build_tables(study)
    assert page(study, tables, {}) == page(study, tables, {})


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    study = measured(tmp_path, hostile=True)
    tables = build_tables(study)
    document = page(study, tables, figures.draw_all(study, tables[:1]))
    tree = Tree(document)
    assert len(tree.all("script")) == 2
    assert "alert(1)" in " ".join(tree.text)


def test_markup() -> None:
    assert markup.tag("a", markup.text("<&>"), href='"', cls="x", hidden=True, title=None) == (
        '<a class="x" href="&quot;" hidden>&lt;&amp;&gt;</a>')
    assert "<" not in markup.embed({"a": "</script><!--"})
    big = markup.download("all", "all.csv", "x" * 2_000_000)
    assert 'download="all.csv.gz"' in big and len(big) < 10_000


@pytest.fixture(scope="module")
def tab(document: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    if not browser.executable():
        pytest.skip("Chromium is not installed")
    folder = tmp_path_factory.mktemp("chromium")
    (folder / "report.html").write_text(document, encoding="utf-8")
    with browser.browser(folder / "profile") as tab:
        tab.open(folder / "report.html")
        yield tab


def wait_for_details(tab: browser.Page) -> None:
    """Until how the runs were made has been unpacked."""
    tab.run("""(async () => { for (let i = 0; i < 500; i++) {
        if (document.querySelector("#runs details, #runs-body p.hint")) return;
        await new Promise((done) => setTimeout(done, 20)); } })()""")


def test_chromium_shows_runs_by_keyboard_and_reports_no_error(tab: browser.Page) -> None:
    tab.run("document.querySelector('button.cell').focus()")
    tab.press("Enter")
    assert tab.run("document.getElementById('runs').open")
    wait_for_details(tab)
    tab.run("document.querySelectorAll('#runs details').forEach((d) => { d.open = true; })")
    shown = tab.run("document.getElementById('runs').innerText")
    assert '"lr": 0.3' in shown and "store/logs/" in shown and "torch 2.15.0" in shown
    assert tab.run("document.querySelectorAll('#runs details.made').length") == 3
    for part in ("SimCLR, curated", "Evaluation key", "Hardware", "Git commit", "Images seen",
                 "Data fingerprint", "python -m harness.sweep"):
        assert part in shown
    assert tab.run("document.querySelectorAll('#runs tbody tr').length") == 3
    assert "alert(1)" in tab.run("document.querySelector('#runs-body').innerText")
    tab.press("Escape")
    assert not tab.run("document.getElementById('runs').open")
    assert tab.run("document.activeElement.className") == "cell"
    assert tab.errors() == []
    assert [url for url in tab.requests() if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chromium_contrast(tab: browser.Page, scheme: str) -> None:
    tab.scheme(scheme)
    pairs: list[Any] = tab.run("""(() => {
      const lum = (c) => { const v = c.match(/[\\d.]+/g).slice(0, 3).map((x) => {
        x /= 255; return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
      const back = (e) => { for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor;
        if (c !== "rgba(0, 0, 0, 0)") return c; } return "rgb(255, 255, 255)"; };
      return [...document.querySelectorAll("main *, header *, nav *, footer *")]
        .filter((e) => !e.closest("svg") && [...e.childNodes].some(
          (n) => n.nodeType === 3 && n.textContent.trim()))
        .map((e) => { const a = lum(getComputedStyle(e).color), b = lum(back(e));
          return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 80)]; });
    })()""")
    assert len(pairs) > 200
    assert [pair for pair in pairs if pair[0] < 4.5] == []


def test_chromium_fits_narrow_screens_and_paper(tab: browser.Page, tmp_path: Path) -> None:
    tab.picture(tmp_path / "narrow.png", width=380)
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    assert (tmp_path / "narrow.png").stat().st_size > 10_000
    pdf = tab.pdf()
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") >= 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(tab: browser.Page, scheme: str) -> None:
    if not AXE.is_file():
        pytest.skip(f"axe-core is not installed: .ci/run puts it at {AXE}")
    tab.scheme(scheme)
    tab.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    # through the protocol, which the page's policy for scripts does not reach
    tab.run(AXE.read_text(encoding="utf-8") + "; 0")
    for opened in (False, True):
        if opened:
            tab.run("document.querySelector('button.cell').click()")
            wait_for_details(tab)
            tab.run("document.querySelectorAll('#runs details').forEach((d) => { d.open = true; })")
        found = tab.run("""axe.run().then((r) => ({passes: r.passes.length, bad: r.violations.map(
            (v) => [v.id, v.nodes.length, v.nodes[0].html.slice(0, 120),
                    v.nodes[0].failureSummary])}))""")
        assert found["passes"] > 20 and found["bad"] == []
    tab.press("Escape")
    assert [url for url in tab.requests() if not url.startswith(("file:", "data:"))] == []


def test_figures_claims_cards_and_runs_are_on_the_page(study: Measured, document: str) -> None:
    tree = Tree(document)
    sections = [a["id"] for a in tree.all("section")]
    assert sections == ["overview", "figures", "results", "claims", "failures", "data-cards",
                        "downloads"]
    assert len(tree.all("img")) == 2 and all(a["alt"] for a in tree.all("img"))
    assert len(document) < 3_000_000
    assert made(study)["params"][0]["training"]["lr"] == 0.3


def test_how_thousands_of_stages_were_made_fits_the_page(tmp_path: Path) -> None:
    plan = synthetic.study(seeds=range(100), evaluations=("linear", "knn"))
    found = read(synthetic.write(tmp_path, plan, synthetic.records(plan)))
    assert found.folder
    beside(found.folder, found)
    stages = made(found)["stages"]
    text, elsewhere = packed(found)
    assert len(stages) > 4_000 and not elsewhere
    assert len(text) < 100 * len(stages)  # 60 to 80 bytes each
    plain = json.loads(gzip.decompress(base64.b64decode(text)))
    key = found.keys[-1]
    row = plain["stages"][plain["keys"].index(key)]
    assert row[0] == "evaluate" and plain["keys"][row[3]["features"]] == stages[key][3]["features"]


def test_where_the_runs_are_is_said_when_they_are_not_on_the_page(
        study: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_module, "MOST_STAGES", 3)
    text, elsewhere = packed(study)
    assert not text and "runs.json beside it" in elsewhere
    assert "harness.status grid=curation_gap scale=laptop cell=METHOD,CONDITION,SEED" in elsewhere
    assert "runs.json was not beside" in packed(measured(tmp_path))[1]
