"""One thread for every test and what it starts.

The bytes of a run depend on the number of threads, and two processes of two threads each on two
cores wait for each other.
"""

from __future__ import annotations

import os

# before torch is imported anywhere
os.environ["OMP_NUM_THREADS"] = "1"
