"""The sheet of claims as terminal output, Markdown, LaTeX, CSV and JSON.

    python -m harness.report claims=true                 every study under results
    python -m harness.report claims=true grid=ablations  one study

From study.json, records.parquet and paper_tables alone; no torch. Its figure: figures_claims.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .claim_tests import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    SUPPORTED,
    VERDICTS,
    ClaimSheet,
    Entry,
    Link,
    claims_sheet,
)
from .errors import UserError
from .evaluation.measures import measure
from .measured import Measured, read
from .statistics import MISSING, number, p_text
from .table_formats import escape_latex, one_line

if TYPE_CHECKING:
    from rich.console import Console

NAME = "claims"  # the stem of its files
COLORS = {SUPPORTED: "green", CONTRADICTED: "red", INCONCLUSIVE: "yellow", NOT_RUN: "dim"}
CSV_COLUMNS = ("claim", "paper", "kind", "statement", "source", "study", "data", "verdict", "why",
               "comparison", "mean", "low", "high", "n", "interval", "level", "d_z", "unit",
               "minimum", "published", "p", "p_holm", "p_holm_against", "family", "further_seeds",
               "seeds", "notes", "command")


def from_results(results: Path, names: list[str], scale: str = "laptop") -> ClaimSheet:
    """The sheet of the named studies below `results` ("curation_gap-laptop").

    A study that cannot be read is refused by name on the sheet, with the reason and the remedy; of
    a single one that is named, the UserError is raised.
    """
    found: list[Measured] = []
    refused = []
    for name in names:
        try:
            found.append(_read(results / name))
        except UserError as error:
            if len(names) == 1:
                raise
            refused.append(f"{name}: {error}")
    return claims_sheet(_shared(found), refused=refused, scale=scale)


def _shared(found: list[Measured]) -> list[Measured]:
    """Studies with a note on the evaluations that another one before them has too.

    They have one key, so they are one measurement: the sheet counts them once. Where both have
    it with other values, it was made twice, and the note says by how much they differ.
    """
    first: dict[tuple[str, str], tuple[str, float]] = {}
    noted = []
    for measured in found:
        name, frame = measured.study.name, measured.records
        common: dict[str, dict[str, list[float]]] = {}
        for key, metric, value in zip(frame["evaluate_key"], frame["metric"], frame["value"],
                                      strict=True):
            owner, other = first.setdefault((key, metric), (name, value))
            if owner != name:
                common.setdefault(owner, {}).setdefault(key, []).append(abs(value - other))
        told = [_told_shared(owner, keys) for owner, keys in common.items()]
        noted.append(replace(measured, notes=(*measured.notes, *told)))
    return noted


def _told_shared(owner: str, keys: Mapping[str, list[float]]) -> str:
    apart = [max(differences) for differences in keys.values() if max(differences) > 0]
    differ = f"; {len(apart)} of them were made twice and differ by up to {max(apart):.3g}" \
        if apart else ""
    return f"{len(keys)} evaluations are those of {owner} and are counted once{differ}."


def _read(folder: Path) -> Measured:
    """A study with its records, which are collected first where there is no records.parquet."""
    if not (folder / "records.parquet").exists():
        from .records import collect

        collect(folder)
    return read(folder)


def files(sheet: ClaimSheet) -> dict[str, bytes]:
    """Name -> content in every format, claims.md and so on."""
    return {f"{NAME}{suffix}": write(sheet).encode() for suffix, write in WRITERS.values()}


# -- words ----------------------------------------------------------------------------------------


def legend(sheet: ClaimSheet) -> str:
    """What the numbers are."""
    return (
        f"Effects are mean differences over n seeds, positive where they are as claimed, with the "
        f"half-width of the {sheet.level:.0%} t interval of the pairs (uncorrected); d is the mean "
        "in standard deviations of the pairs. p is that of the paired t-test, Holm-corrected over "
        "the claims of one paper at one scale on one data set. Supported: significant, and at "
        "least the smallest effect that matters; contradicted: significantly less than that. "
        "Further seeds: for 80 % power at the effect and spread seen so far, which few seeds "
        "estimate roughly. Published numbers are of the papers' own data and scale.")


def summary(sheet: ClaimSheet) -> str:
    """"3 supported, 1 contradicted, 5 inconclusive, 26 not run, from 252 evaluations"."""
    counted = ", ".join(f"{sheet.count(verdict)} {verdict}" for verdict in VERDICTS)
    return f"{counted}, from {sheet.evaluations:,} evaluations"


def effect_text(entry: Entry, link: Link) -> str:
    """"+2.1 ± 0.4 points (n=3)"."""
    if link.estimate.missing:
        return MISSING
    unit = measure(entry.claim.sides[0].metric).noun
    head, _, n = link.estimate.text(signed=True, digits=link.estimate.digits).partition(" (n=")
    return f"{head} {unit} (n={n}"


def published_text(entry: Entry) -> str:
    """The paper's own effects, "+2.1" or "--"."""
    return ", ".join(map(_short, entry.claim.effects)) or MISSING


def _short(effect: float) -> str:
    return number(effect, 2, True).rstrip("0").rstrip(".")


def _d(link: Link) -> str:
    return MISSING if math.isnan(link.effect) else number(link.effect, 2, True)


def _p(entry: Entry) -> str:
    """The corrected p of the verdict: that of support, or of contradiction."""
    return p_text(entry.p_against if entry.verdict == CONTRADICTED else entry.p)


# -- formats --------------------------------------------------------------------------------------


def latex(sheet: ClaimSheet) -> str:
    """A booktabs table for each paper to \\input; the records of every claim as comments on top."""
    lines = [r"% needs \usepackage[T1]{fontenc} \usepackage{booktabs,graphicx,textcomp}",
             "% made by: python -m harness.report claims=true",
             *(f"% study {one_line(f'{name}: {data}')}" for name, data, _ in sheet.studies),
             "% records (evaluation keys) of every claim:", *map(_comment, sheet.entries)]
    said = legend(sheet)
    for paper in dict.fromkeys(entry.claim.paper for entry in sheet.entries):
        own = [entry for entry in sheet.entries if entry.claim.paper == paper]
        lines += [
            r"\begin{table}[t]", r"\centering\small",
            rf"\caption{{{escape_latex(f'Claims of {paper}. {said}'.strip())}}}",
            rf"\label{{tab:{NAME}-{re.sub('[^A-Za-z0-9-]', '-', paper)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            r"\begin{tabular}{@{}p{6.2cm}lrrrrl@{}}", r"\toprule",
            r"claim & verdict & effect (points) & $d$ & $p$ (Holm) & published & study \\",
            r"\midrule",
            *(line for entry in own for line in _latex_rows(entry)),
            r"\bottomrule", r"\end{tabular}}", r"\end{table}"]
        said = ""  # once is enough
    return "\n".join(lines) + "\n"


def _comment(entry: Entry) -> str:
    seeds = " ".join(map(str, dict.fromkeys(seed for link in entry.links for seed in link.seeds)))
    where = f"{entry.claim.id}{' / ' + entry.study if entry.study else ''}"
    return f"% {one_line(where)}: seeds {seeds or 'none'}: {' '.join(entry.keys) or 'no record'}"


def _latex_rows(entry: Entry) -> list[str]:
    """A claim's row; of one with several comparisons, each is a row of its own below."""
    several = len(entry.links) > 1
    link = None if several or not entry.links else entry.links[0]
    told = [rf"\raggedright {escape_latex(f'{entry.claim.statement} ({entry.claim.source})')}",
            entry.verdict, *_latex_numbers(entry, link), _p(entry),
            "" if several else published_text(entry), entry.study or MISSING]
    rows = [[told[0], *map(_tex, told[1:])]]
    effects = entry.claim.effects or (math.nan,) * len(entry.links)
    for link, effect in zip(entry.links, effects, strict=True) if several else ():
        shown = MISSING if math.isnan(effect) else _short(effect)
        rows.append([rf"\quad {escape_latex(link.name)}", "",
                     *map(_tex, (*_latex_numbers(entry, link), "", shown, ""))])
    return [" & ".join(row) + r" \\" for row in rows]


def _latex_numbers(entry: Entry, link: Link | None) -> tuple[str, str]:
    return (effect_text(entry, link).replace(" points (", " ("), _d(link)) if link else ("", "")


def _tex(text: str) -> str:
    """A cell; a hyphen before a digit is a minus."""
    return re.sub(r"^-(?=\d)", "$-$", escape_latex(text))


def markdown(sheet: ClaimSheet) -> str:
    """One table for each paper, notes and commands below."""
    lines = ["# Claims", "", f"{summary(sheet)}. {legend(sheet)}", ""]
    for name, data, note in sheet.studies:
        lines.append(f"- `{name}`: {data}{'. ' + note if note else ''}")
    lines += [f"- refused: {line}" for line in sheet.refused]
    for paper in dict.fromkeys(entry.claim.paper for entry in sheet.entries):
        own = [entry for entry in sheet.entries if entry.claim.paper == paper]
        lines += ["", f"## {paper}", "", "| claim | verdict | effect | d | p (Holm) | published | "
                  "study | why |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
        lines += [_markdown_row(entry) for entry in own]
        told = [f"- `{entry.claim.id}`{_of(entry)}: {note}" for entry in own
                for note in entry.notes]
        lines += ["", *told] if told else []
        lines += ["", *_commands(own)]
    return "\n".join(lines).rstrip() + "\n"


def _of(entry: Entry) -> str:
    return f" ({entry.study})" if entry.study else ""


def _markdown_row(entry: Entry) -> str:
    effects = "<br>".join(f"{link.name}: {effect_text(entry, link)}" for link in entry.links)
    cells = (f"{entry.claim.statement} ({entry.claim.source})", f"**{entry.verdict}**",
             effects or MISSING, "<br>".join(_d(link) for link in entry.links) or MISSING,
             _p(entry), published_text(entry), entry.study or MISSING, entry.why)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _commands(entries: list[Entry]) -> list[str]:
    """What would run what is not there or settle what is open, each once."""
    wanted = {entry.command: None for entry in entries if entry.command and (
        entry.verdict == NOT_RUN or entry.further)}
    return [*(f"    {command}" for command in wanted), ""] if wanted else []


def rows(sheet: ClaimSheet) -> list[dict[str, Any]]:
    """One row for each comparison of each claim, plain values; None where there is none."""
    found = []
    for entry in sheet.entries:
        effects: tuple[float | None, ...] = entry.claim.effects or (None,) * max(
            1, len(entry.links))
        found += [_row(entry, link, effects[i], sheet.level)
                  for i, link in enumerate(entry.links or (None,))]
    return found


def _row(entry: Entry, link: Link | None, published: float | None,
         level: float) -> dict[str, Any]:
    claim, kind = entry.claim, measure(entry.claim.sides[0].metric)
    told: dict[str, Any] = dict.fromkeys(CSV_COLUMNS)
    told |= {"claim": claim.id, "paper": claim.paper, "kind": claim.kind,
             "statement": claim.statement, "source": claim.source, "study": entry.study or None,
             "data": entry.data or None, "verdict": entry.verdict, "why": entry.why,
             "unit": kind.noun, "minimum": claim.minimum,
             "published": None if published is None else round(published, 6),
             "p_holm": _number(entry.p), "p_holm_against": _number(entry.p_against),
             "family": entry.family or None, "further_seeds": entry.further,
             "notes": "; ".join(entry.notes) or None, "command": entry.command, "level": level}
    if link is not None:
        estimate = link.estimate
        told |= {"comparison": link.name, "n": estimate.n, "interval": estimate.kind,
                 "d_z": _number(link.effect), "p": _number(link.p),
                 "seeds": " ".join(map(str, link.seeds)),
                 **{name: _number(value * estimate.scale) for name, value in (
                     ("mean", float(estimate.mean)), ("low", estimate.low),
                     ("high", estimate.high))}}
    return told


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def as_csv(sheet: ClaimSheet) -> str:
    """`rows` as CSV; what there is none of is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(sheet))
    return out.getvalue()


def as_json(sheet: ClaimSheet) -> str:
    """`rows` with the legend, and what was refused."""
    return json.dumps({"legend": legend(sheet), "level": sheet.level,
                       "refused": list(sheet.refused),
                       "studies": [{"study": name, "data": data, "note": note}
                                   for name, data, note in sheet.studies],
                       "claims": rows(sheet)}, indent=1, allow_nan=False) + "\n"


WRITERS: dict[str, tuple[str, Callable[[ClaimSheet], str]]] = {
    "markdown": (".md", markdown), "latex": (".tex", latex), "csv": (".csv", as_csv),
    "json": (".json", as_json)}


def terminal(sheet: ClaimSheet, console: Console) -> None:
    """Each claim on a few lines, its verdict in front."""
    for line in sheet.refused:
        console.print(f"refused: {line}", style="red", markup=False)
    for paper in dict.fromkeys(entry.claim.paper for entry in sheet.entries):
        console.print(f"\n{paper}", style="bold", markup=False)
        for entry in (e for e in sheet.entries if e.claim.paper == paper):
            _print_entry(entry, console)
    console.print(f"\n{legend(sheet)}", style="dim", markup=False)
    console.print(f"\n{summary(sheet)}", style="bold", markup=False)


def _print_entry(entry: Entry, console: Console) -> None:
    from rich.text import Text

    head = Text(f"  {entry.verdict:12}  ", style=COLORS[entry.verdict])
    console.print(head + Text(entry.claim.statement, style="default"), soft_wrap=True)
    place = f" ({entry.claim.source})"
    published = f"; published {published_text(entry)}" if entry.claim.effects else ""
    lines = [f"{entry.claim.id}{place}{published}"]
    lines += [f"{link.name}: {effect_text(entry, link)}, d {_d(link)}" for link in entry.links]
    p = "" if math.isnan(entry.p) else f"p {_p(entry)} of {entry.family} claims; "
    lines.append(f"{entry.study + ': ' if entry.study else ''}{p}{entry.why}")
    lines += list(entry.notes)
    if entry.command and (entry.verdict == NOT_RUN or entry.further):
        lines.append(entry.command)
    for line in lines:
        console.print(Text(" " * 16 + line), crop=False, soft_wrap=True)
