"""Writes files and folders whole or not at all; checksums, locks and disk space."""

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from kdedge.errors import KdedgeError

# In the format of `sha256sum`, so `sha256sum -c checksums.sha256` can check it too.
CHECKSUMS = "checksums.sha256"
LFS_POINTER = b"version https://git-lfs"


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_pointer(file: Path) -> None:
    """Check that a file is not the pointer that Git LFS leaves if it has not been downloaded.

    Raises:
        KdedgeError: it is one.
    """
    with file.open("rb") as opened:
        if opened.read(len(LFS_POINTER)) == LFS_POINTER:
            raise KdedgeError(
                f"{file}: not the file itself, but a pointer of Git LFS to it. `git lfs pull` gets "
                "the file."
            )


def need_name(path: Path) -> None:
    """Check that a path ends with a name, beside which temporary files can be.

    Raises:
        KdedgeError: it is `.` or `/`.
    """
    if not path.name:
        raise KdedgeError(
            f"{path}: the name of a new folder or file is needed. For one that is there, write the "
            "whole path."
        )


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` if the block succeeds.

    If the process is killed, `path` is unchanged.

    Raises:
        KdedgeError: `path` has no name.
    """
    need_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill, and rename it to `path` if the block succeeds.

    Raises:
        KdedgeError: `path` exists already, or has no name.
    """
    need_name(path)
    if path.exists():
        raise KdedgeError(f"{path} exists already. Remove it or name another folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        for file in partial.rglob("*"):
            _sync(file)
        _sync(partial)
        partial.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Write the SHA-256 of files in `folder` to its `checksums.sha256`, in sha256sum's format."""
    write_text(folder / CHECKSUMS, _checksums(folder, sorted(names)))


def verify_checksums(folder: Path, names: Iterable[str], remedy: str) -> frozenset[str]:
    """Check the files of a folder against its `checksums.sha256`.

    Args:
        folder: a folder for which `write_checksums` was called.
        names: files that must have a checksum.
        remedy: what to do about a damaged folder, for messages.

    Returns:
        The names of all files that have a checksum.

    Raises:
        KdedgeError: one of `names` has no checksum; or a file, or the list itself, is damaged.
    """
    path = folder / CHECKSUMS
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        raise KdedgeError(f"{path} is missing or damaged. {remedy}") from None
    # Each line is a checksum, two blanks and a name.
    listed = [line[66:] for line in text.split("\n")[:-1]]
    for name in names:
        if name not in listed:
            raise KdedgeError(f"{folder / name} is not in {CHECKSUMS}. {remedy}")
    there = {file.name for file in folder.iterdir() if file.is_file()}
    for name in listed:
        if name not in there:
            raise KdedgeError(f"{folder}: {name!r}, which is in {CHECKSUMS}, is missing. {remedy}")
    written, found = text.split("\n"), _checksums(folder, listed).split("\n")
    for name, line, expected in zip([*listed, CHECKSUMS], found, written, strict=True):
        if line != expected:
            raise KdedgeError(
                f"{folder / name} is not the file that was written: its SHA-256 differs from that "
                f"in {CHECKSUMS}. {remedy}"
            )
    return frozenset(listed)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on `path`, by a lock file beside it.

    Raises:
        KdedgeError: another process holds it, or `path` has no name.
    """
    need_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KdedgeError(
                f"{path}: another run is at work here. Wait for it or stop it."
            ) from None
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files for `path` that a killed process left."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        # Those for a path with another name: v1.2 for v1.
        if left.name.count(".") > path.name.count(".") + 3:
            continue
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _checksums(folder: Path, names: Iterable[str]) -> str:
    return "".join(f"{sha256(folder / name)}  {name}\n" for name in names)


def require_space(folder: Path, needed: int) -> None:
    """Check that `needed` bytes fit on the disk that holds `folder`.

    Raises:
        KdedgeError: less is free.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise KdedgeError(
            f"{folder}: {free / 1e6:.0f} MB are free on this disk and about {needed / 1e6:.0f} MB "
            "are needed. Make room or name a folder on another disk."
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
