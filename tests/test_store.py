from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import Failure, UserError
from harness.stages import Stage
from harness.store import Store, sha256

STAGE = Stage("evaluate", {"evaluation": "knn"}).to_json()


def commit(store: Store, value: float = 0.5, stage: dict[str, Any] = STAGE) -> Path:
    with store.work(stage["key"]) as work:
        (work / "scores.npy").write_bytes(b"scores")
        return store.commit(stage, work, {"top1": value}, {"seconds": 1.0})


def test_commit_makes_a_complete_verified_artifact(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    assert store.committed() == set()
    folder = commit(store)
    assert sorted(p.name for p in folder.iterdir()) == [
        "SHA256SUMS", "metrics.json", "record.json", "scores.npy", "stage.json"]
    assert store.committed() == {STAGE["key"]} and store.has("evaluate", STAGE["key"])
    store.verify("evaluate", STAGE["key"])
    assert json.loads((folder / "metrics.json").read_text()) == {"top1": 0.5}
    assert not list((tmp_path / "work").iterdir())


def test_checksums_are_in_the_format_of_sha256sum(tmp_path: Path) -> None:
    folder = commit(Store.open(tmp_path))
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stdout


def test_a_second_commit_of_the_same_key_changes_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    first = sha256(commit(store, 0.5) / "metrics.json")
    assert sha256(commit(store, 0.7) / "metrics.json") == first


@pytest.mark.parametrize(("damage", "said"), [
    (lambda f: (f / "scores.npy").write_bytes(b"other!"), "scores.npy: does not match"),
    (lambda f: (f / "scores.npy").unlink(), "scores.npy: missing"),
    (lambda f: (f / "extra").write_text("x"), "extra: not in"),
    (lambda f: (f / "SHA256SUMS").write_text("nonsense"), "SHA256SUMS: missing or damaged"),
])
def test_damage_is_named_with_the_remedy_and_set_aside(tmp_path: Path, damage: Any,
                                                       said: str) -> None:
    store = Store.open(tmp_path)
    folder = commit(store)
    damage(folder)
    with pytest.raises(Failure, match=said) as error:
        store.verify("evaluate", STAGE["key"])
    assert "repair=true" in str(error.value)
    aside = store.quarantine("evaluate", STAGE["key"])
    assert aside.is_dir() and not store.has("evaluate", STAGE["key"])


def test_a_place_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="choose another place with results=DIR"):
        Store.open(tmp_path / "file" / "store")


def test_another_version_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path)
    (tmp_path / "version.json").write_text('{"store": 99}')
    with pytest.raises(UserError, match="version 99"):
        Store.open(tmp_path)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)],
                             capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_leaves_no_half_artifact(full_disk: Path) -> None:
    store = Store.open(full_disk)
    with pytest.raises(OSError, match="No space left"), store.work(STAGE["key"]) as work:
        (work / "big.npy").write_bytes(b"x" * (1 << 20))
        store.commit(STAGE, work, {}, {})
    assert store.committed() == set() and not list((full_disk / "work").iterdir())
    store.fail(STAGE["key"], {"cause": "x" * (1 << 20)})  # cannot be written, and must not raise
    assert commit(store).is_dir()  # there is room again


def test_what_a_killed_worker_left_is_swept_up_and_a_living_ones_is_not(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    dead, living = (tmp_path / "work" / f"{name}.x" for name in ("dead", "living"))
    dead.mkdir()
    living.mkdir()
    claim = store.claim("living")
    assert claim is not None
    with claim:
        store.sweep_up()
        assert living.exists() and not dead.exists()
