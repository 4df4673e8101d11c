"""The memory of the evaluations does not grow with the images, which stay in their file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

SMALL, LARGE, WIDTH = 30_000, 500_000, 64


def _peaks(images: int, folder: Path) -> dict[str, float]:
    """Peak anonymous megabytes of the process during each evaluation.

    All of the process: what an evaluation adds depends on the freed memory that it finds.
    """
    command = [sys.executable, str(ROOT / "benchmarks/evaluation.py"), "memory", "--images",
               str(images), "--width", str(WIDTH), "--shrink", "256", "--folder", str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder,
                           env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
    return {line["evaluation"]: line["process_mb"] for line in lines}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read on Linux")
def test_many_more_images_take_the_same_memory(tmp_path: Path) -> None:
    small, large = _peaks(SMALL, tmp_path), _peaks(LARGE, tmp_path)
    assert sorted(small) == ["kmeans", "knn", "linear", "linear_sgd"]
    more = (LARGE - SMALL) * WIDTH * 4 / 1e6  # a copy of the added features, 120 MB
    for name, value in large.items():
        assert value < small[name] + more / 2, (name, small, large)
