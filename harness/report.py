"""`python -m harness.report grid=NAME`: tables, figures and one HTML page, from records alone.

    grid=NAME        the grid to report on
    table=NAME       instead of a grid, a published table (dnc/table3), a paper (dnc), or all
    scale=NAME       its scale (default: laptop)
    data=NAME        its images (default: photos)
    results=DIR      the store's root (default: results)
    format=NAME      how tables are printed: terminal, markdown, latex or csv (default: terminal)
    figures=BOOL     whether figures are drawn (default: true)
    claims=BOOL      instead, the papers' claims tested on the grid's records, or without a grid on
                     all studies under results; written as <results>/claims.md, .csv, .tex, .json
                     and a figure, those of one grid into its study's folder (default: false)

Reads <results>/<grid>-<scale>/, or <grid>-<scale>-<data>/, and writes tables/, figures/
and report.html into it. Without records.parquet the records are collected from the store first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness import arguments
from harness.errors import door, unknown
from harness.store import write_atomic

if TYPE_CHECKING:
    from rich.console import Console

    from harness.measured import Measured
    from harness.paper_results import PaperResult
    from harness.tables import Footnote, Table

DEFAULTS = {"grid": "", "table": "", "scale": "laptop", "data": "", "results": arguments.RESULTS,
            "format": "terminal", "figures": "true", "claims": "false"}
FORMATS = ("terminal", "markdown", "latex", "csv")


def main(argv: list[str]) -> int:
    """Parse `key=value` arguments, write the report, return the exit code."""
    if arguments.wants_help(argv):
        print(__doc__)
        return 0
    options = parse(argv)
    figures = arguments.boolean("figures", options["figures"], "harness.report")
    if arguments.boolean("claims", options["claims"], "harness.report"):
        every = not any(argument.startswith("scale=") for argument in argv)
        report_claims(options, every_scale=every, figures=figures)
        return 0
    folder = arguments.find(Path(options["results"]), arguments.named(options, "harness.report"),
                            options["scale"], options["data"])
    from rich.console import Console

    written = write_report(folder, Console(highlight=False), figures=figures,
                           style=options["format"])
    if options["format"] == "terminal":
        print(f"{len(written)} files written; open {(folder / 'report.html').resolve()}")
    return 0


def parse(argv: list[str]) -> dict[str, str]:
    """`key=value` arguments over their defaults; UserError names what is unknown or wrong."""
    options = arguments.parse(argv, DEFAULTS, "harness.report")
    if options["format"] not in FORMATS:
        raise unknown("format", options["format"], FORMATS, "harness.report")
    return options


def report_claims(options: Mapping[str, str], every_scale: bool = False,
                  figures: bool = True) -> list[Path]:
    """Print the sheet of claims and write it with its figure; returns the files written.

    Of the study that `options` name, into its folder; or else of all of their scale (or of every
    scale), into the results folder.
    """
    from rich.console import Console

    from harness import claim_sheet

    results, scale, style = Path(options["results"]), options["scale"], options["format"]
    folder = results
    if name := arguments.named(options, "harness.report"):
        folder = arguments.find(results, name, scale, options["data"])
        names = [folder.name]
    else:
        names = arguments.studies(results) if every_scale else arguments.of_scale(results, scale)
    sheet, console = claim_sheet.from_results(results, names, scale), Console(highlight=False)
    files = claim_sheet.files(sheet)
    if figures:
        from harness.figures_claims import draw_claims

        files |= draw_claims(sheet)
    if style == "terminal":
        claim_sheet.terminal(sheet, console)
        console.print(f"written: {folder / claim_sheet.NAME}.* ({', '.join(files)})",
                      style="dim", markup=False, soft_wrap=True)
    else:
        console.out(claim_sheet.WRITERS[style][1](sheet), end="", highlight=False)
    return write_all(folder, files)


def write_report(folder: Path, console: Console | None = None, *, figures: bool = True,
                 style: str = "terminal") -> list[Path]:
    """Print the headline tables and write everything into `folder`; returns the files written.

    `style` is how tables are printed, one of `FORMATS`. Takes seconds and no torch.
    """
    from rich.console import Console

    from harness.html import page
    from harness.measured import read
    from harness.paper_results import paper_results
    from harness.tables import build_tables

    if not (folder / "records.parquet").exists():
        _collect(folder)
    measured = read(folder)
    papers = paper_results(measured)
    tables = [] if papers else build_tables(measured)
    _show(measured, tables, papers, console or Console(highlight=False), style)
    drawings = {}
    if figures:
        from harness.figures import draw_all
        from harness.figures_ranks import draw_ranks

        drawings = draw_all(measured, tables)
        drawings |= draw_ranks(measured) if tables else {}
    files = table_files(tables) | paper_files(papers) | drawings | card_files(measured)
    files["report.html"] = page(measured, tables, drawings).encode()
    return write_all(folder, files)


def show_report(folder: Path) -> None:
    """Print the headline tables of a report that is up to date; a second instead of five."""
    from rich.console import Console

    from harness.measured import read
    from harness.paper_results import paper_results
    from harness.tables import build_tables

    measured = read(folder)
    papers = paper_results(measured)
    _show(measured, [] if papers else build_tables(measured), papers, Console(highlight=False),
          "terminal")


def _collect(folder: Path) -> None:
    from harness.records import collect

    collect(folder)


def _show(measured: Measured, tables: list[Table], papers: list[PaperResult], console: Console,
          style: str) -> None:
    from harness.table_formats import WRITERS, terminal

    _show_papers(papers, console, style)
    headline = [t for t in tables if (t.evaluation, t.metric) == measured.study.headline]
    said: tuple[Footnote, ...] = ()
    for table in headline:
        if style == "terminal":
            shown = terminal(table, console.width, repeat=table.footnotes != said)
            console.print(shown, "", crop=False)  # a command may be longer than a line
            said = table.footnotes
        else:
            console.out(WRITERS[style][1](table), end="", highlight=False)
    if style == "terminal":
        for note in measured.notes:
            console.print(f"note: {note}", style="yellow", markup=False)


def _show_papers(papers: list[PaperResult], console: Console, style: str) -> None:
    """Published tables of which anything was asked; the others are in the files."""
    from harness import paper_layout

    for paper in papers:
        if style != "terminal":
            console.out(paper_layout.WRITERS[style][1](paper), end="", highlight=False)
        elif any("reason" not in result.told for result in paper.results.values()):
            console.print(paper_layout.terminal(paper, console.width), "", crop=False)
    if papers and style == "terminal":
        console.print(paper_layout.summary(papers), style="bold", markup=False)


def paper_files(papers: list[PaperResult]) -> dict[str, bytes]:
    """Relative path -> content of every published table in every format."""
    from harness.paper_layout import WRITERS, file_name

    return {f"tables/{file_name(paper.table.id)}{suffix}": write(paper).encode()
            for paper in papers for suffix, write in WRITERS.values()}


def card_files(measured: Measured) -> dict[str, bytes]:
    """Relative path -> content of the cards of the study's data, so that it is whole by itself."""
    from harness.beside import cards

    files = {}
    for card in cards(measured):
        text = json.dumps(card.card, indent=1, sort_keys=True) + "\n"
        files[f"cards/{card.fingerprint}.json"] = text.encode()
        if card.picture:
            files[f"cards/{card.fingerprint}.png"] = card.picture
    return files


def table_files(tables: list[Table]) -> dict[str, bytes]:
    """Relative path -> content of every table in every format."""
    from harness.table_formats import WRITERS

    return {
        f"tables/{table.name}{suffix}": write(table).encode()
        for table in tables for suffix, write in WRITERS.values()
    }


def write_all(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write files below `folder`, each by a temporary sibling and one rename."""
    paths = []
    for name, content in files.items():
        write_atomic(folder / name, content)
        paths.append(folder / name)
    return paths


run = door(main)

if __name__ == "__main__":
    run()
