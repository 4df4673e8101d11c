"""What a record says about where it came from: code, versions, hardware."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-image", "scikit-learn", "pillow",
            "safetensors", "hydra-core", "pandas")


def code() -> dict[str, str]:
    """The git commit of the code and, if files differ from it, a hash of the difference.

    Without git (an installed package) the commit is "".
    """
    commit = _git("rev-parse", "HEAD")
    difference = _git("diff", "HEAD", "--", "harness", "methods", "datasets") if commit else ""
    dirty = hashlib.sha256(difference.encode()).hexdigest()[:12] if difference else ""
    return {"git_commit": commit, "code": dirty}


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True,
                              timeout=10, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def hardware(device: str) -> str:
    """The processor or accelerator that did the work, in words."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    return f"{_cpu()}, {os.cpu_count()} cores"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def provenance(command: str) -> dict[str, Any]:
    """What every record of one sweep shares."""
    return {**code(), "command": command}
