"""The main command disturbed: killed, interrupted, twice at once, on a bad disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, SMALL, contents, sweep


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_with_the_same_bytes(finished: Path, tmp_path: Path,
                                                          kills: int) -> None:
    chance = random.Random(kills)
    command = [sys.executable, "-m", "harness.sweep", *SMALL, f"results={tmp_path}",
               "launcher.checkpoint_seconds=0.2"]
    killed = 0
    for _ in range(kills):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=chance.uniform(2.0, 9.0))
        except subprocess.TimeoutExpired:
            # the sweep or one of its workers, as chance has it
            victims = [process.pid, *children(process.pid)]
            os.kill(chance.choice(victims), signal.SIGKILL)
            process.kill()
            process.wait()
            killed += 1
    assert killed >= min(kills, 3) - 1
    last = sweep(tmp_path)
    assert last.returncode == 0, last.stderr
    assert contents(tmp_path) == contents(finished)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def test_two_sweeps_at_once_share_the_work(finished: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness.sweep", *SMALL, f"results={tmp_path}"]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [p.returncode for p in both] == [0, 0]
    assert contents(tmp_path) == contents(finished)
    ran = [int(text.split("ran ")[1].split(" ")[0]) for text in said if "ran " in text]
    stages = sum(1 for _ in (tmp_path / "store").glob("*/??/*/stage.json"))
    logs = "".join(p.read_text() for p in tmp_path.glob("store/logs/*.log"))
    assert ran and logs.count("--- ") == stages  # each was begun once, by one of them


def _listen_to_ctrl_c() -> None:
    """A shell starts background jobs deaf to it, and so would be what they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_checkpoints_and_says_how_to_go_on(finished: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness.sweep", *SMALL, f"results={tmp_path}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, preexec_fn=_listen_to_ctrl_c)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "store" / "claims").glob("*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; the same command continues" in said and "Traceback" not in said
    assert not list((tmp_path / "store" / "claims").glob("*.json"))
    assert sweep(tmp_path).returncode == 0 and contents(tmp_path) == contents(finished)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB: room for some artifacts of the small grid, not for all."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)],
                      capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_loses_nothing(finished: Path, small_disk: Path) -> None:
    full = sweep(small_disk)
    assert full.returncode == 1
    assert "No space left on device" in full.stderr and "Traceback" not in full.stderr
    assert "free some space" in full.stderr
    kept = contents(small_disk)
    assert kept and kept.items() <= contents(finished).items()
    subprocess.run(["mount", "-o", "remount,size=500m", str(small_disk)], check=True)
    again = sweep(small_disk)
    assert again.returncode == 0, again.stderr
    assert contents(small_disk) == contents(finished)


def test_a_read_only_store_is_the_users_to_mend(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = sweep(small_disk)
    assert done.returncode == 2 and "choose another place with results=DIR" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/version.json").write_text('{"store": 0}')
    done = sweep(tmp_path)
    assert done.returncode == 2 and "this store has version 0" in done.stderr
