from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic

from harness import report, store

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def results(tmp_path: Path) -> Path:
    plan = synthetic.study(methods=("moclr", "dnc", "random_init"), evaluations=("linear",))
    synthetic.write(tmp_path / "results", plan, synthetic.records(plan))
    return tmp_path / "results"


def door(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.report", *map(str, arguments)], cwd=ROOT,
        capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})


def test_everything_is_written_and_the_headline_printed(results: Path) -> None:
    done = door("grid=curation_gap", "scale=laptop", f"results={results}")
    assert done.returncode == 0, done.stderr
    assert "DnC" in done.stdout and "(n=3)" in done.stdout and "curated - uncurated" in done.stdout
    folder = results / "curation_gap-laptop"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    for name in ("report.html", "tables/linear-balanced.tex", "tables/gap-linear-balanced.md",
                 "tables/linear-few.csv", "figures/gap-linear-balanced.png",
                 "figures/gap-linear-balanced.pdf", "figures/gap-linear-balanced.svg"):
        assert name in names
    assert not [name for name in names if Path(name).name.startswith(".")]
    assert str(folder / "report.html") in done.stdout


@pytest.mark.parametrize(("style", "start"), [
    ("markdown", "**Linear balanced accuracy**"), ("latex", "% needs"), ("csv", "method,condition"),
])
def test_printed_formats(results: Path, style: str, start: str) -> None:
    done = door("grid=curation_gap", f"results={results}", f"format={style}", "figures=false")
    assert done.returncode == 0 and done.stdout.startswith(start)
    written = (results / "curation_gap-laptop" / "tables").glob("linear-balanced.*")
    assert any(done.stdout.startswith(path.read_text()) for path in written)
    assert not (results / "curation_gap-laptop" / "figures").exists()


@pytest.mark.parametrize(("arguments", "said"), [
    (["grid=curation_gop"], ("unknown study 'curation_gop-laptop'", "curation_gap-laptop")),
    (["gird=curation_gap"], ("unknown argument 'gird'", "mean 'grid'")),
    ([], ("no grid is named; write grid=NAME", "curation_gap-laptop")),
    (["grid"], ("'grid' has no value",)),
    (["grid=curation_gap", "format=latx"], ("unknown format 'latx'", "mean 'latex'")),
    (["grid=curation_gap", "figures=maybe"], ("'maybe'", "false, true")),
    (["grid=curation_gap", "scale=paper"], ("unknown study 'curation_gap-paper'",)),
])
def test_mistakes_are_one_line_and_exit_code_2(
    results: Path, arguments: list[str], said: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["harness.report", *arguments, f"results={results}"])
    with pytest.raises(SystemExit) as ended:
        report.run()
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == ""
    assert len(err.splitlines()) == 1 and all(part in err for part in said)


def test_a_missing_store_is_one_line(tmp_path: Path) -> None:
    done = door("grid=curation_gap", f"results={tmp_path / 'nowhere'}")
    assert done.returncode == 2 and "results=DIR" in done.stderr


def test_help() -> None:
    done = door("--help")
    assert done.returncode == 0 and "grid=NAME" in done.stdout


def test_torch_is_never_imported(results: Path) -> None:
    script = (
        "import sys\n"
        "import harness.statistics, harness.measured, harness.tables, harness.table_formats\n"
        "import harness.figures, harness.html, harness.report\n"
        "assert 'matplotlib' not in sys.modules and 'seaborn' not in sys.modules\n"
        "assert 'scipy.stats' not in sys.modules\n"
        "from pathlib import Path\n"
        f"files = harness.report.write_report(Path({str(results / 'curation_gap-laptop')!r}))\n"
        "assert len(files) > 10\n"
        "assert 'torch' not in sys.modules and 'matplotlib' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_same_records_give_the_same_files(results: Path) -> None:
    folder = results / "curation_gap-laptop"
    contents = [{path: path.read_bytes() for path in report.write_report(folder)}
                for _ in range(2)]
    assert len(contents[0]) > 20 and contents[0] == contents[1]


def test_missing_records_are_collected(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = results / "curation_gap-laptop"
    kept = (folder / "records.parquet").read_bytes()
    (folder / "records.parquet").unlink()
    asked: list[Path] = []

    def collect(folder: Path) -> None:
        asked.append(folder)
        (folder / "records.parquet").write_bytes(kept)

    monkeypatch.setattr(report, "_collect", collect)
    assert report.write_report(folder, figures=False) and asked == [folder]


def test_writing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    store.write_atomic(path, b"old")

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        store.write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644
