"""`python -m harness.report grid=NAME`: tables, figures and one HTML page, from records alone.

    grid=NAME        the grid to report on
    scale=NAME       its scale (default: laptop)
    results=DIR      the store's root (default: results)
    format=NAME      how tables are printed: terminal, markdown, latex or csv (default: terminal)
    figures=BOOL     whether figures are drawn (default: true)

Reads <results>/<grid>-<scale>/ and writes tables/, figures/ and report.html into it. Without
records.parquet the records are collected from the store first.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError, door, unknown

if TYPE_CHECKING:
    from rich.console import Console

    from harness.measured import Measured
    from harness.tables import Footnote, Table

DEFAULTS = {"grid": "", "scale": "laptop", "results": "results", "format": "terminal",
            "figures": "true"}
FORMATS = ("terminal", "markdown", "latex", "csv")
BOOLEANS = {"true": True, "false": False}


def main(argv: list[str]) -> int:
    """Parse `key=value` arguments, write the report, return the exit code."""
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    options = parse(argv)
    folder = find(Path(options["results"]), options["grid"], options["scale"])
    from rich.console import Console

    written = write_report(folder, Console(highlight=False), figures=BOOLEANS[options["figures"]],
                           style=options["format"])
    if options["format"] == "terminal":
        print(f"{len(written)} files written; open {(folder / 'report.html').resolve()}")
    return 0


def parse(argv: list[str]) -> dict[str, str]:
    """`key=value` arguments over their defaults; UserError names what is unknown or wrong."""
    options = dict(DEFAULTS)
    for argument in argv:
        name, equals, value = argument.partition("=")
        if name not in DEFAULTS:
            raise unknown("argument", name, DEFAULTS, "harness.report")
        if not equals or not value:
            raise UserError(f"harness.report: '{argument}' has no value; write {name}=VALUE")
        options[name] = value
    if options["format"] not in FORMATS:
        raise unknown("format", options["format"], FORMATS, "harness.report")
    if options["figures"] not in BOOLEANS:
        raise unknown("value of figures", options["figures"], BOOLEANS, "harness.report")
    return options


def find(results: Path, grid: str, scale: str) -> Path:
    """The folder of a study; UserError lists the studies that exist."""
    if not results.is_dir():
        raise UserError(f"{results} is no folder; name the store's root with results=DIR")
    studies = sorted(p.parent.name for p in results.glob("*/study.json"))
    if not grid:
        raise UserError(f"no grid is named; write grid=NAME (in {results}: "
                        f"{', '.join(studies) or 'no study yet'})")
    name = f"{grid}-{scale}"
    if name not in studies:
        raise unknown("study", name, studies, str(results))
    return results / name


def write_report(folder: Path, console: Console | None = None, *, figures: bool = True,
                 style: str = "terminal") -> list[Path]:
    """Print the headline tables and write everything into `folder`; returns the files written.

    `style` is how tables are printed, one of `FORMATS`. Takes seconds and no torch.
    """
    from rich.console import Console

    from harness.html import page
    from harness.measured import read
    from harness.tables import build_tables

    if not (folder / "records.parquet").exists():
        _collect(folder)
    measured = read(folder)
    tables = build_tables(measured)
    _show(measured, tables, console or Console(highlight=False), style)
    drawings = {}
    if figures:
        from harness.figures import draw_all

        drawings = draw_all(measured, tables)
    files = table_files(tables) | drawings
    files["report.html"] = page(measured, tables, drawings).encode()
    return write_all(folder, files)


def _collect(folder: Path) -> None:
    from harness.records import collect

    collect(folder)


def _show(measured: Measured, tables: list[Table], console: Console, style: str) -> None:
    from harness.table_formats import WRITERS, terminal

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
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
        paths.append(path)
    return paths


def write_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content`; a reader sees the old file or the new one, never half of it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp makes it private, a report is to be read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


run = door(main)

if __name__ == "__main__":
    run()
