"""The store: key -> committed artifact. Plain files, atomic, safe for many writers.

    <root>/version.json
    <root>/<kind>/<k2>/<key>/     stage.json metrics.json record.json SHA256SUMS *.safetensors *.npy
    <root>/work/<key>.<random>/   an artifact in the making
    <root>/checkpoints/<key>/     survives a kill; removed when the stage is committed
    <root>/claims/<key>.json      owner and heartbeat
    <root>/failures/<key>.json    why the last attempt failed
    <root>/logs/<key>.log         what a stage has printed, in all its attempts
    <root>/progress/<key>.json    how far a running stage is
    <root>/submissions/<id>/      what was given to a batch system (see launch/ledger.py)
    <root>/quarantine/            artifacts that did not match their checksums

An artifact appears by one rename of a complete, fsynced directory, so a reader never sees a part.
No database is the truth.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .claims import Claim, is_alive, take
from .errors import Failure, UserError
from .stages import REVISIONS, Stage

VERSION = 1
KINDS = tuple(REVISIONS)
SUMS = "SHA256SUMS"


def now() -> str:
    """The time in UTC, ISO 8601, seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that `path` holds either the old or the whole new text, even after a crash."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_atomic(path, text.encode())


def write_atomic(path: Path, data: bytes) -> None:
    """Write bytes to a temporary sibling, fsync it, rename it over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sibling = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(sibling, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(sibling, path)
    except OSError:
        sibling.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Read a JSON file of the store; a damaged one is a `Failure` that names it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise Failure(f"{path}: not readable as JSON ({error}); {REPAIR}") from None


REPAIR = "run the same command with repair=true to set it aside and compute it again"


def sha256(path: Path) -> str:
    """SHA-256 of a file, read in 1 MiB pieces."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return hasher.hexdigest()


@dataclass(frozen=True)
class Store:
    """Artifacts under `root`. All methods may be called by many processes at once."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> Store:
        """Create or open a store for writing.

        Raises UserError when the place is not writable, full, or of another version.
        """
        store = cls(root)
        store.check_version()
        try:
            for name in ("claims", "failures", "work", "checkpoints", "logs", "progress"):
                (root / name).mkdir(parents=True, exist_ok=True)
            if not (root / "version.json").exists():
                write_json(root / "version.json", {"store": VERSION})
            probe = root / "claims" / f".probe-{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise UserError(f"{root}: cannot write the store ({explain(error)}); choose another "
                            "place with results=DIR") from None
        return store

    def check_version(self) -> None:
        """Refuse a store that another version of the harness wrote."""
        path = self.root / "version.json"
        if not path.exists():
            return
        try:
            found = json.loads(path.read_text()).get("store")
        except (ValueError, AttributeError, OSError):
            found = "unreadable"
        if found != VERSION:
            raise UserError(f"{path}: this store has version {found}, this harness writes version "
                            f"{VERSION}; choose another place with results=DIR")

    def folder(self, kind: str, key: str) -> Path:
        """Where the artifact of a stage lies once committed."""
        return self.root / kind / key[:2] / key

    def path(self, stage: Stage) -> Path:
        """`folder` of a stage."""
        return self.folder(stage.kind, stage.key)

    def has(self, kind: str, key: str) -> bool:
        """Whether the artifact is committed."""
        return self.folder(kind, key).is_dir()

    def committed(self) -> set[str]:
        """All committed keys, by one listing per bucket: 10,000 stages take about 10 ms."""
        keys: set[str] = set()
        for kind in KINDS:
            for bucket in _entries(self.root / kind):
                keys.update(entry.name for entry in _entries(Path(bucket.path)))
        return keys

    @contextmanager
    def work(self, key: str) -> Iterator[Path]:
        """An empty folder of our own for the artifact in the making; what is left of it is removed.

        Committing renames it away. After a failure it is gone too, and with it what filled a disk.
        """
        folder = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=self.root / "work"))
        folder.chmod(0o777 & ~_umask())
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep_up(self) -> None:
        """Remove what killed workers left in the making; that of living ones is not touched."""
        for entry in _entries(self.root / "work"):
            if not is_alive(self.root / "claims" / f"{entry.name.split('.')[0]}.json"):
                shutil.rmtree(entry.path, ignore_errors=True)

    def checkpoints(self, key: str) -> Path:
        """Where a stage keeps what it needs to resume."""
        return self.root / "checkpoints" / key

    def log(self, key: str) -> Path:
        """Where everything lies that a stage has printed, in all its attempts."""
        return self.root / "logs" / f"{key}.log"

    def note_progress(self, key: str, facts: Mapping[str, Any] | None) -> None:
        """Say how far a stage is, for anybody to read; None: it runs no more."""
        path = self.root / "progress" / f"{key}.json"
        try:
            if facts is None:
                path.unlink(missing_ok=True)
            else:
                sibling = path.with_name(f".{path.name}.{os.getpid()}")
                sibling.write_text(json.dumps(facts))
                sibling.replace(path)
        except OSError:
            pass

    def claim(self, key: str) -> Claim | None:
        """The right to work on a stage, or None while a living owner has it."""
        return take(self.root / "claims" / f"{key}.json")

    def commit(self, stage: Mapping[str, Any], work: Path, metrics: Mapping[str, Any],
               record: Mapping[str, Any]) -> Path:
        """Make the artifact visible; metrics are deterministic, the record is its provenance."""
        key, kind = stage["key"], stage["kind"]
        write_json(work / "stage.json", stage)
        write_json(work / "metrics.json", metrics)
        write_json(work / "record.json", record)
        _write_sums(work)
        target = self.folder(kind, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(work, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # another worker was first: the same key, so the same content
        _fsync_folder(target.parent)
        shutil.rmtree(self.checkpoints(key), ignore_errors=True)
        (self.root / "failures" / f"{key}.json").unlink(missing_ok=True)
        return target

    def verify(self, kind: str, key: str) -> None:
        """Compare an artifact with its checksums; raises Failure naming the first bad file."""
        folder = self.folder(kind, key)
        try:
            lines = (folder / SUMS).read_text().splitlines()
            expected = {name: value for value, name in (line.split("  ", 1) for line in lines)}
        except (OSError, ValueError):
            raise Failure(f"{folder / SUMS}: missing or damaged; {REPAIR}") from None
        present = {entry.name for entry in os.scandir(folder)} - {SUMS}
        for name in sorted(present ^ set(expected)):
            raise Failure(f"{folder / name}: {'not in' if name in present else 'missing, but in'} "
                          f"{SUMS}; {REPAIR}")
        for name, value in expected.items():
            if sha256(folder / name) != value:
                raise Failure(f"{folder / name}: does not match {SUMS}; {REPAIR}")

    def quarantine(self, kind: str, key: str) -> Path:
        """Set a damaged artifact aside, so that its stage is computed again; nothing is deleted."""
        for attempt in range(1000):
            target = self.root / "quarantine" / f"{kind}-{key}.{attempt}"
            if not target.exists():
                break
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.folder(kind, key), target)
        return target

    def fail(self, key: str, failure: Mapping[str, Any]) -> None:
        """Remember why a stage failed; a full disk must not hide the first cause."""
        try:
            write_json(self.root / "failures" / f"{key}.json", failure)
        except OSError:
            pass

    def failures(self) -> dict[str, dict[str, Any]]:
        """key -> why its last attempt failed, for all stages that failed and are not done since."""
        found = {}
        for entry in _entries(self.root / "failures"):
            if entry.name.endswith(".json") and not entry.name.startswith("."):
                found[entry.name[:-5]] = read_json(Path(entry.path))
        return found


def explain(error: OSError) -> str:
    """The operating system's words for an error, without the path."""
    return error.strerror or str(error)


def _entries(folder: Path) -> Iterable[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _umask() -> int:
    """The process's mask of permissions, which mkdtemp ignores: artifacts are to be shared."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_sums(folder: Path) -> None:
    """SHA256SUMS in sha256sum's own format, every file and the folder fsynced."""
    lines = []
    for path in sorted(folder.iterdir()):
        lines.append(f"{sha256(path)}  {path.name}\n")
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    with open(folder / SUMS, "w") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    _fsync_folder(folder)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
