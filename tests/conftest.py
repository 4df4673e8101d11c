"""One thread for every test and what it starts.

The bytes of a run depend on the number of threads, and two processes of two threads each on two
cores wait for each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import Cluster, running
from support import sweep

# before torch is imported anywhere
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a small sweep that nobody disturbed."""
    results = tmp_path_factory.mktemp("finished")
    done = sweep(results)
    assert done.returncode == 0, done.stderr
    return results


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real Slurm with four nodes; every test that uses it leaves it without jobs."""
    with running(tmp_path_factory.mktemp("slurm")) as started:
        yield started
