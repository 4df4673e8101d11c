"""The section of claims: what the papers say, tested on this study's records."""

from __future__ import annotations

import math
import re

from harness.claim_sheet import effect_text, legend, published_text
from harness.claim_tests import CONTRADICTED, NOT_RUN, VERDICTS, Entry, claims_sheet
from harness.figures_papers import PAPERS
from harness.html.markup import command, join, table, tag, text
from harness.html.sections import Content, Section
from harness.statistics import MISSING, number, p_text


def claims(content: Content) -> Section | None:
    """The claims that this study's grid tests, by paper; None where there is none."""
    sheet = claims_sheet([content.measured])
    own = [entry for entry in sheet.entries if entry.scale]
    if not own:
        return None
    counts = {name: sum(entry.verdict == name for entry in own) for name in VERDICTS}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    parts = [tag("p", text(f"{len(own)} claims of the papers are tested on this grid: {told}."),
                 cls="lead"), tag("p", text(legend(sheet)), cls="legend")]
    for paper in dict.fromkeys(entry.claim.paper for entry in own):
        rows = [_row(entry) for entry in own if entry.claim.paper == paper]
        head = map(text, ("Claim", "Verdict", "Effect", "d", "p (Holm)", "Published", "Why"))
        name = PAPERS.get(paper, paper)
        parts += [tag("h3", text(name)), table(head, rows, f"Claims of {name}", quiet=True)]
        notes = [tag("li", tag("strong", text(entry.claim.id)) + text(f": {note}"))
                 for entry in own if entry.claim.paper == paper for note in entry.notes]
        if notes:
            parts.append(tag("ul", join(notes), cls="footnotes"))
    commands = list(dict.fromkeys(e.command for e in own if e.command))
    if commands:
        parts.append(tag("details", tag("summary", text("Commands that would settle more"))
                         + tag("ul", join(tag("li", command(line)) for line in commands),
                               cls="footnotes")))
    return Section("claims", "Claims", join(parts))


def _row(entry: Entry) -> list[str]:
    """One claim; a claim of several comparisons shows each on a line of its own."""
    said = tag("span", text(f"{entry.claim.statement} ")) + tag(
        "span", text(f"({entry.claim.source})"), cls="source")
    several = len(entry.links) > 1
    effects = join(tag("div", text((f"{link.name}: " if several else "")
                                   + _minus(effect_text(entry, link)))) for link in entry.links)
    sizes = join(tag("div", text(MISSING if math.isnan(link.effect)
                                 else _minus(number(link.effect, 2, True))))
                 for link in entry.links)
    p = entry.p_against if entry.verdict == CONTRADICTED else entry.p
    style = {NOT_RUN: "not-run"}.get(entry.verdict, entry.verdict)
    return [said, tag("span", text(entry.verdict), cls=f"verdict {style}"), effects, sizes,
            text(p_text(p)), text(_minus(published_text(entry))), text(entry.why)]


def _minus(written: str) -> str:
    """Numbers with the sign of the other tables of the page."""
    return re.sub(r"(?<!\S)-(?=\d)", "\u2212", written)
