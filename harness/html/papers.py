"""The section of published tables: each cell beside ours, with a click to the runs behind it."""

from __future__ import annotations

import math

from harness.evaluation.measures import measure
from harness.html.markup import download, join, scroll, tag, text
from harness.html.sections import Content, Section
from harness.paper_layout import direction_text, file_name, latex, summary, tidy_csv
from harness.paper_results import PaperResult, Result, paper_results
from harness.papers import Row, label
from harness.statistics import number

MOST_SIGNS = 40


def papers(content: Content) -> Section | None:
    """Every published table of the study; those of which nothing was asked are folded away."""
    found = paper_results(content.measured)
    if not found:
        return None
    places = _places(content)
    body = [tag("p", text(summary(found) + "."), cls="lead"),
            tag("p", text("Choose a number of ours to see the runs behind it."), cls="hint")]
    for result in found:
        inner = _table(content, result, places)
        asked = any("reason" not in cell.told for cell in result.results.values())
        title = f"{result.table.id}: {result.table.number}"
        body.append(tag("h3", text(title)) + inner if asked else
                    tag("details", tag("summary", text(f"{title} (nothing asked)")) + inner))
    return Section("papers", "Published tables", join(body))


def _places(content: Content) -> dict[tuple[str, str], int]:
    """(evaluation key, metric) -> the first record that has them."""
    frame = content.measured.records
    found: dict[tuple[str, str], int] = {}
    for i, place in enumerate(zip(frame["evaluate_key"], frame["metric"], strict=True)):
        found.setdefault((str(place[0]), str(place[1])), i)
    return found


def _table(content: Content, result: PaperResult, places: dict[tuple[str, str], int]) -> str:
    table = result.table
    keys = [c.name for c in table.columns if c.kind == "key"]
    values = [c.name for c in table.columns if c.kind == "value"]
    head = tag("tr", join(tag("th", text(name), scope="col") for name in [*keys, *values]))
    lines = []
    for i, row in enumerate(table.rows):
        names = ["-" if row.cells[k] is None else str(row.cells[k]) for k in keys]
        first = [tag("th", text(name), scope="row") if not j else tag("td", text(name))
                 for j, name in enumerate(names)]
        cells = [_cell(content, result, row, result.results.get((i, name)), places)
                 for name in values]
        lines.append(tag("tr", join([*first, *cells])))
    caption = f"{table.caption}. {table.metric} ({table.unit})"
    inner = (tag("caption", text(caption)) + tag("thead", head) + tag("tbody", join(lines)))
    said = [direction_text(column, d) for column, each in result.directions.items() for d in each]
    signs = join(tag("li", text(line)) for line in said[:MOST_SIGNS])
    return join([
        tag("p", text(f"Ours: {result.note}."), cls="note"),
        scroll(tag("table", inner, cls="cells"), f"Published table: {table.id}"),
        tag("details", tag("summary", text("Signs of differences between rows"))
            + tag("ul", signs)) if said else "",
        tag("p", download("CSV", f"{file_name(table.id)}.csv", tidy_csv(result), "text/csv")
            + text(" ") + download("LaTeX", f"{file_name(table.id)}.tex", latex(result)))])


def _cell(content: Content, result: PaperResult, row: Row, found: Result | None,
          places: dict[tuple[str, str], int]) -> str:
    """Published above; ours, the difference and the verdict below, with why as its title."""
    if found is None:
        return tag("td")
    digits = max(1, len(f"{found.cell.value:g}".partition(".")[2]))
    published = tag("div", text(("~" if found.cell.approximate else "")
                                + number(found.cell.value, digits)), cls="mean")
    why = "; ".join(found.verdict.why)
    verdict = tag("span", text(found.verdict.name), cls="quiet", title=why)
    if math.isnan(found.verdict.delta):
        return tag("td", published + verdict)
    metric = str(found.told.get("metric", ""))
    rows = tuple(places[key, metric] for key in found.keys if (key, metric) in places)
    written = found.ours.text(digits, scale=1.0)
    name = f"{label(result.table, row)}, {found.cell.column}"
    button = tag("button", text(written), type="button", cls="cell", aria_haspopup="dialog",
                 data_runs=content.runs_at(rows, measure(metric).scale), data_estimate=written,
                 data_title=f"{name}: {result.table.id}")
    delta = tag("div", text(number(found.verdict.delta, digits, signed=True) + " ") + verdict)
    return tag("td", published + button + delta)
