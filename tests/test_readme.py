"""The README is true: its commands are run, its example is checked, CI runs its install line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from support import ROOT, door

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
LINES = [line.split(" #")[0].strip() for kind, block in BLOCKS if kind == "bash"
         for line in block.splitlines()]
COMMANDS = [shlex.split(line)[2:] for line in LINES if line.startswith("python -m harness")]
REFERENCE = ROOT / "results/reference/curation_gap-laptop"
# the doors that take a place for what they write
WRITERS = ("harness.sweep", "harness.status", "harness.report", "harness.data", "harness.cancel",
           "harness.explain")
EXAMPLE = next(block for kind, block in BLOCKS if kind == "python")


def test_there_is_something_to_run() -> None:
    assert len(COMMANDS) >= 15 and len(LINES) - len(COMMANDS) == 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the README's commands name."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "my_method.py").write_text(EXAMPLE)
    rng = np.random.default_rng(0)
    for split, n in (("train", 400), ("test", 100)):
        for label in range(4):
            (folder / "images" / split / f"class{label}").mkdir(parents=True)
        pixels = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        from PIL import Image

        for i, image in enumerate(pixels):
            Image.fromarray(image).save(folder / f"images/{split}/class{i % 4}/{i}.png")
    np.savez(folder / "images.npz", x_train=rng.integers(0, 256, (400, 32, 32, 3), dtype=np.uint8),
             y_train=np.arange(400) % 4, y_test=np.arange(100) % 4,
             x_test=rng.integers(0, 256, (100, 32, 32, 3), dtype=np.uint8))
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_understood(command: list[str], place: Path) -> None:
    module, *arguments = command
    arguments = [re.sub(r"(images\.npz|images$|my_method\.py)", lambda m: str(place / m[0]), word)
                 for word in arguments]
    if module == "harness.sweep":  # running them all would take an hour; planning takes a second
        arguments += ["dry_run=true"]
    if module in WRITERS:
        arguments += [f"results={place / 'results'}"]
    arguments = [f"png={place / 'sheet.png'}" if word == "png=sheet.png" else word
                 for word in arguments]
    done = door(module, *arguments)
    download = "data.options.download=true" in arguments
    nothing_yet = module in ("harness.status", "harness.report", "harness.cancel")
    if nothing_yet:  # understood: no study has been run into this folder
        assert done.returncode == 2 and ("no study" in done.stderr or "no folder" in done.stderr)
    else:
        assert done.returncode == 0 or download, done.stderr


def test_the_example_is_a_method_of_at_most_60_lines(place: Path) -> None:
    assert len(EXAMPLE.splitlines()) <= 60
    done = door("harness.check", "method=my_method", f"plugins={place / 'my_method.py'}")
    assert done.returncode == 0 and "keeps the contract" in done.stdout, done.stdout


def test_ci_runs_the_readmes_own_commands() -> None:
    install, tests = (line for line in LINES if line.startswith(("python3 -m venv", ".venv")))
    script = (ROOT / ".ci/run").read_text()
    assert install.split(" && .venv/bin/python -m harness")[0] in script
    assert tests in script


def test_the_table_is_made_from_the_records() -> None:
    """Every row of the README's table is what the committed records say."""
    from harness.measured import read
    from harness.table_formats import markdown
    from harness.tables import build_tables

    tables = {t.name: markdown(t) for t in build_tables(read(REFERENCE))}
    accuracy, gap = (cells(tables[name]) for name in ("linear-balanced", "gap-linear-balanced"))
    shown = cells(TEXT)
    assert len(shown) == len(accuracy) >= 11
    assert shown == {name: [*accuracy[name], *gap[name]] for name in accuracy}


def cells(text: str) -> dict[str, list[str]]:
    """First column -> the others, of the rows with numbers in a Markdown table."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()
            if line.startswith("|") and "(n=" in line]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if not link.startswith("http")]
    assert links and all((ROOT / link.split("#")[0]).exists() for link in links), links
