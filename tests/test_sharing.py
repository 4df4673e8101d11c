"""harness.diff, harness.pack and harness.merge."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import store_fixtures

from harness import diff, pack
from harness.errors import UserError
from harness.measured import read
from harness.merge import merge

ROOT = Path(__file__).resolve().parent.parent


def packed(tmp_path: Path, name: str, weights: bool = False, **options: object) -> Path:
    folder = store_fixtures.study(tmp_path / name, **options)  # type: ignore[arg-type]
    out = tmp_path / f"{name}.tar"
    pack.pack(folder, out, weights)
    return out


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file()}


def repacked(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of a pack with its members changed (None: left out)."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            data = change(member.name, file.read())
            if data is not None:
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
    return target


def test_a_pack_is_the_same_every_time_and_taken_in_whole(tmp_path: Path) -> None:
    out = packed(tmp_path, "a")
    again = tmp_path / "again.tar"
    pack.pack(tmp_path / "a" / "curation_gap-laptop", again)
    assert out.read_bytes() == again.read_bytes()
    with tarfile.open(out) as tar:
        names = tar.getnames()
    assert "study/records.parquet" in names and not any("weights" in name for name in names)
    merge([out], tmp_path / "b")
    one, two = (read(tmp_path / name / "curation_gap-laptop").records for name in "ab")
    assert one.equals(two) and one["evaluate_key"].nunique() == 8
    assert not (tmp_path / "b/store/pretrain").exists()
    assert len(list((tmp_path / "b/store/light/pretrain").glob("??/*"))) == 8
    before = tree(tmp_path / "b")
    assert merge([out, again], tmp_path / "b")[0].startswith("0 artifacts are new")
    assert {k: v for k, v in tree(tmp_path / "b").items() if "/index/" not in k} == {
        k: v for k, v in before.items() if "/index/" not in k}
    assert not list((tmp_path / "b" / "store").glob(".merge-*"))


def test_weights_come_along_when_asked_for(tmp_path: Path) -> None:
    merge([packed(tmp_path, "a", weights=True)], tmp_path / "b")
    assert len(list((tmp_path / "b/store/pretrain").glob("??/*/weights.safetensors"))) == 8


def test_seeds_of_two_places_become_one_study(tmp_path: Path) -> None:
    files = [packed(tmp_path, name, seeds=seeds) for name, seeds in (("a", (0, 1)), ("b", (1, 2)))]
    merge(files, tmp_path / "c")
    found = read(tmp_path / "c" / "curation_gap-laptop")
    assert found.seeds == (0, 1, 2) and found.records["evaluate_key"].nunique() == 4 * 3
    merge(files[1:], tmp_path / "a")
    found = read(tmp_path / "a" / "curation_gap-laptop")
    assert found.records["evaluate_key"].nunique() == 4 * 3


@pytest.mark.parametrize(("other", "said"), [
    ({"shift": 0.01}, ("has other metrics in", "b.tar", "balanced")),
    ({"epochs": 9}, ("moclr / curated / 0 / linear is another computation", "harness.diff")),
    ({"seeds": (5,), "options": {"l2_count": 3}}, ("'linear' was measured under 2 protocols",)),
])
def test_what_does_not_agree_is_refused_and_nothing_is_written(
        tmp_path: Path, other: dict[str, object], said: tuple[str, ...]) -> None:
    first, second = packed(tmp_path, "a"), packed(tmp_path, "b", **other)
    merge([first], tmp_path / "c")
    before = tree(tmp_path / "c")
    for files in ([second], [first, second]):
        with pytest.raises(UserError) as refused:
            merge(files, tmp_path / "c")
        assert all(part in str(refused.value) for part in said)
    assert tree(tmp_path / "c") == before


def test_files_that_were_changed_are_refused_by_name(tmp_path: Path) -> None:
    good = packed(tmp_path, "a")

    def refusal(change: Callable[[str, bytes], bytes | None]) -> str:
        with pytest.raises(UserError) as refused:
            merge([repacked(good, tmp_path / "bad.tar", change)], tmp_path / "c")
        assert len(str(refused.value).splitlines()) == 1 and "bad.tar" in str(refused.value)
        assert not (tmp_path / "c" / "curation_gap-laptop").exists()
        return str(refused.value)

    def edited(name: str, data: bytes) -> bytes:
        return data.replace(b"0.8", b"0.9") if name.endswith("metrics.json") else data

    assert "metrics.json' does not match its SHA256SUMS" in refusal(edited)
    assert "missing, but in" in refusal(
        lambda name, data: None if name == "study/records.parquet" else data)
    assert "is no pack" in refusal(lambda name, data: None if name == "pack.json" else data)
    (tmp_path / "cut.tar").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "text.tar").write_bytes(b"no tar" * 500)
    for name in ("cut.tar", "text.tar", "absent.tar"):
        with pytest.raises(UserError, match=name):
            merge([tmp_path / name], tmp_path / "c")


def test_an_artifact_edited_before_it_was_packed_is_refused(tmp_path: Path) -> None:
    folder = store_fixtures.study(tmp_path / "a")
    stage = next((tmp_path / "a/store/pretrain").glob("??/*/stage.json"))
    stage.write_text(stage.read_text().replace('"epochs": 8', '"epochs": 9'))
    store_fixtures.seal(stage.parent)  # the checksums hold; the key does not
    pack.pack(folder, tmp_path / "a.tar")
    with pytest.raises(UserError, match="stage.json does not say what its key says"):
        merge([tmp_path / "a.tar"], tmp_path / "b")


@pytest.mark.parametrize("name", [
    "../evil", "/tmp/evil", "study/../../evil", "store/evaluate/ab/evil", "pack.json/x",
    "store/version.json", "store/cards/../x.json"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(UserError, match="is no name that a pack has"):
        merge([tmp_path / "bad.tar"], tmp_path / "b")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE,
                                  tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        info = tarfile.TarInfo("pack.json")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(UserError, match="'pack.json' is a link"):
        merge([tmp_path / "bad.tar"], tmp_path / "b")


def test_too_much_is_refused_before_it_is_written(tmp_path: Path) -> None:
    good = packed(tmp_path, "a")
    with pytest.raises(UserError, match="unpacks to more than"):
        merge([good], tmp_path / "b", limit=2000)


def test_diff_names_what_two_runs_differ_in(tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    store_fixtures.study(tmp_path, methods=("moclr",))
    results = f"results={tmp_path}"
    assert diff.main(["curation_gap:moclr:curated:0:linear",
                      "curation_gap:moclr:uncurated:1:linear", results]) == 0
    said = capsys.readouterr().out
    for part in ("features.encoder.seed ", "0  |  1", "features.encoder.data.fingerprint",
                 "balanced", "(-0.04)"):
        assert part in said
    assert "epochs" not in said and "hardware" not in said
    key = next((tmp_path / "store/pretrain").glob("??/*")).name
    assert diff.main([key[:10], key, results]) == 0
    assert "nothing differs" in capsys.readouterr().out
    assert diff.main([key[:10], key, results, "same=true"]) == 0
    assert "2 x x86_64 CPU" in capsys.readouterr().out


@pytest.mark.parametrize(("runs", "said"), [
    (["abcd"], "1 runs are named"), (["xyz!", "abcd"], "'xyz!' is no run"),
    (["0123456789", "abcd"], "begins with '0123456789'"),
    (["curation_gap:moclr:curated:0", "abcd"], "is no cell"),
    (["curation_gap:moclrr:curated:0:linear", "abcd"], "mean 'moclr'"),
    (["curation_gop:moclr:curated:0:linear", "abcd"], "curation_gap-laptop"),
])
def test_diff_says_what_is_no_run(tmp_path: Path, runs: list[str], said: str) -> None:
    store_fixtures.study(tmp_path, methods=("moclr",), seeds=(0,))
    with pytest.raises(UserError) as refused:
        diff.main([*runs, f"results={tmp_path}"])
    assert said in str(refused.value) and len(str(refused.value).splitlines()) == 1


def test_the_doors_from_the_shell_without_torch(tmp_path: Path) -> None:
    store_fixtures.study(tmp_path / "a")

    def run(door: str, *words: str) -> subprocess.CompletedProcess[str]:
        script = (f"import sys, harness.{door} as d\nsys.argv = ['x', *{list(words)!r}]\n"
                  "try: d.run()\nfinally: assert 'torch' not in sys.modules")
        return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True,
                              text=True)

    out = str(tmp_path / "a.tar")
    done = run("pack", "grid=curation_gap", f"results={tmp_path / 'a'}", f"out={out}")
    assert done.returncode == 0 and "8 of 8 cells" in done.stdout, done.stderr
    done = run("merge", out, f"results={tmp_path / 'b'}")
    assert done.returncode == 0 and "harness.report grid=curation_gap" in done.stdout, done.stderr
    metrics = next((tmp_path / "a/store/evaluate").glob("??/*/metrics.json"))
    metrics.write_text(json.dumps({**json.loads(metrics.read_text()), "top1": 0.99}))
    done = run("pack", "grid=curation_gap", f"results={tmp_path / 'a'}", f"out={out}")
    assert done.returncode == 1 and str(metrics) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    shutil.rmtree(tmp_path / "b")
    assert run("merge", str(tmp_path / "b.tar")).returncode == 2
