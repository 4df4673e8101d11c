from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import claims
from harness.claims import is_alive, process_start, read_owner, take

TAKER = """
import sys, time
from pathlib import Path
from harness.claims import take
claim = take(Path(sys.argv[1]))
print("mine" if claim else "no", flush=True)
time.sleep(float(sys.argv[2]))
"""


def taker(path: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", TAKER, str(path), str(seconds)],
                            stdout=subprocess.PIPE, text=True)


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    first = take(path)
    assert first is not None and take(path) is None
    with first:
        assert first.held() and is_alive(path)
    assert not path.exists()
    assert take(path) is not None


def test_of_many_processes_one_wins(tmp_path: Path) -> None:
    processes = [taker(tmp_path / "k.json", 1) for _ in range(8)]
    answers = [p.communicate()[0].strip() for p in processes]
    assert sorted(answers) == ["mine"] + ["no"] * 7


def test_a_killed_owner_is_replaced_at_once_by_exactly_one(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    process = taker(path, 60)
    assert process.stdout is not None and process.stdout.readline().strip() == "mine"
    assert take(path) is None
    process.kill()
    process.communicate()
    with ThreadPoolExecutor(8) as pool:
        won = [claim for claim in pool.map(take, [path] * 8) if claim]
    assert len(won) == 1 and won[0].held()


def test_an_owner_elsewhere_is_replaced_when_its_heartbeat_stops(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": "5", "token": "t"}))
    assert take(path) is None
    past = time.time() - claims.EXPIRY_SECONDS - 1
    os.utime(path, (past, past))
    mine = take(path)
    assert mine is not None and mine.held()


def test_a_claim_that_was_taken_over_is_not_removed_by_its_first_owner(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    first = take(path)
    assert first is not None
    path.unlink()
    second = take(path)
    assert second is not None
    with first:
        pass
    assert path.exists() and second.held() and not first.held()


def test_a_heartbeat_keeps_the_claim_fresh(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    claim = take(path)
    assert claim is not None
    os.utime(path, (0, 0))
    before, claims.HEARTBEAT_SECONDS = claims.HEARTBEAT_SECONDS, 0.01
    try:
        with claim:
            deadline = time.time() + 5
            while path.stat().st_mtime < 1 and time.time() < deadline:
                time.sleep(0.01)
            assert path.stat().st_mtime > 1
    finally:
        claims.HEARTBEAT_SECONDS = before


def test_a_process_number_used_again_is_another_process(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    assert take(path) is not None
    owner = read_owner(path)
    assert owner is not None and owner["start"] == process_start(os.getpid())
    path.write_text(json.dumps({**owner, "start": "1"}))
    assert not is_alive(path)
