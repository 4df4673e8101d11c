"""Collecting records: what is read, what is kept, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import store_fixtures

from harness import artifact, record_file, records
from harness.beside import classes, runs
from harness.errors import UserError
from harness.measured import read
from harness.records import collect


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return store_fixtures.study(tmp_path / "results")


def cells(frame: pd.DataFrame) -> int:
    """How many cells have records, all of them with the same metrics."""
    counts = frame.groupby("evaluate_key").size()
    assert counts.nunique() == 1
    return len(counts)


def evaluations(folder: Path) -> list[Path]:
    found = sorted((folder.parent / "store" / "evaluate").glob("??/*"))
    assert found
    return found


def test_what_is_collected_and_what_lies_beside_it(folder: Path) -> None:
    frame, damaged = collect(folder)
    assert damaged == {} and cells(frame) == 8
    assert set(frame["metric"]) >= {"top1", "balanced", "many", "medium", "few"}
    assert set(frame["images_seen"]) == {8000} and set(frame["torch"]) == {"2.15.0"}
    measured = read(folder)
    assert measured.notes == ()
    found = classes(measured)
    assert len(found.accuracy) == 8 and found.counts[0].tolist() == store_fixtures.COUNTS
    many = frame[(frame["metric"] == "many") & (frame["seed"] == 1)].iloc[0]
    place = (many["method"], many["condition"], 1, "linear")
    assert np.mean(found.accuracy[place][:2]) == pytest.approx(many["value"], abs=1e-6)
    made = runs(measured)
    kind, seed, params, inputs, versions, *_ = made.stages[many["pretrain_key"]]
    assert (kind, seed, inputs) == ("pretrain", 1, {})
    assert made.params[params]["training"] == {"epochs": 8}
    assert made.versions[versions] == {"torch": "2.15.0"}


def test_only_what_is_new_or_changed_is_read_again(folder: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(path: str, whole: bool) -> dict[str, object]:
        asked.append(path)
        return artifact.read_artifact(path, whole)

    monkeypatch.setattr(records, "read_artifact", counted)
    first = collect(folder)[0]
    assert len(asked) == 8 * 3
    contents = {p.name: p.read_bytes() for p in folder.iterdir()}
    asked.clear()
    pd.testing.assert_frame_equal(collect(folder)[0], first)
    assert asked == []
    one = evaluations(folder)[3]
    (one / "metrics.json").write_bytes((one / "metrics.json").read_bytes())
    pd.testing.assert_frame_equal(collect(folder)[0], first)
    assert asked == [str(one)]
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == contents
    (folder.parent / "store" / "index" / f"{folder.name}.parquet").write_bytes(b"damaged")
    pd.testing.assert_frame_equal(collect(folder)[0], first)
    assert len(asked) == 1 + 8 * 3


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("name", ["metrics.json", "record.json", "stage.json", "SHA256SUMS"])
def test_a_file_edited_in_place_is_named_and_its_cell_left_out(folder: Path, warm: bool,
                                                               name: str) -> None:
    if warm:
        collect(folder)
    one = evaluations(folder)[0]
    text = (one / name).read_text()
    (one / name).write_text(text.replace("0", "1", 1))
    if name == "SHA256SUMS":  # what was read is still what it was; a fresh look finds it
        (one / "metrics.json").touch()
    for _ in range(2):
        frame, damaged = collect(folder)
        assert list(damaged) == [one.name] and cells(frame) == 7
        assert str(one) in damaged[one.name] and "repair=true" in damaged[one.name]
    (one / name).write_text(text)
    assert collect(folder)[1] == {}


def test_an_encoder_changed_by_hand_is_named(folder: Path) -> None:
    encoder = sorted((folder.parent / "store" / "pretrain").glob("??/*"))[0]
    (encoder / "metrics.json").write_text('{"images_seen": 1}')
    frame, damaged = collect(folder)
    assert len(damaged) == 1 and cells(frame) == 7
    assert str(encoder / "metrics.json") in next(iter(damaged.values()))


def test_a_missing_seed_is_a_footnote_with_its_command(folder: Path) -> None:
    import shutil

    from harness.report import write_report

    shutil.rmtree(evaluations(folder)[0])
    written = write_report(folder, figures=False)
    text = next(p for p in written if p.name == "linear-balanced.md").read_text()
    assert "not run yet" in text and "(n=1)" in text and "harness.sweep" in text


def test_records_changed_by_hand_are_refused_by_name(folder: Path) -> None:
    collect(folder)
    path = folder / "records.parquet"
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = parquet.read_table(path)
    frame = table.to_pandas()
    frame.loc[0, "value"] = 0.99
    changed = pa.Table.from_pandas(frame, preserve_index=False)
    parquet.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(UserError, match="records.parquet was changed after it was written"):
        read(folder)
    frame.to_parquet(path, index=False)
    assert "carries no checksum" in read(folder).notes[0]
    data = bytearray(path.read_bytes())
    record_file.write(path, table.to_pandas())
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=str(path)):
        read(folder)


def test_a_duplicated_cell_and_another_protocol_are_refused_by_name(folder: Path) -> None:
    frame = collect(folder)[0]
    record_file.write(folder / "records.parquet", pd.concat([frame, frame.iloc[:1]]))
    with pytest.raises(UserError, match="recorded more than once"):
        read(folder)
    frame.loc[frame["seed"] == 1, "protocol"] = "another"
    record_file.write(folder / "records.parquet", frame)
    with pytest.raises(UserError, match="measured under 2 protocols.*another"):
        read(folder)


@pytest.mark.parametrize("name", ["per_class.parquet", "runs.json"])
def test_damaged_files_beside_records_are_named(folder: Path, name: str) -> None:
    collect(folder)
    (folder / name).write_bytes(b"{damaged")
    with pytest.raises(UserError, match=name):
        (classes if name.startswith("per") else runs)(read(folder))


def test_an_evaluation_that_nobody_knows_is_named(folder: Path) -> None:
    one = evaluations(folder)[0]
    stage = json.loads((one / "stage.json").read_text())
    stage["params"]["evaluation"] = "lineer"
    (one / "stage.json").write_text(json.dumps(stage))
    store_fixtures.seal(one)
    assert "lineer" in collect(folder)[1][one.name]
