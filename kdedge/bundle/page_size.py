"""Checks whether the native libraries of an Android app can run with memory pages of 16 KB.

Android 15 and later supports devices with such pages, and Google Play requires apps for it to have
64-bit libraries that work there: https://developer.android.com/guide/practices/page-sizes
"""

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kdedge.bundle.manifest import DAMAGED_ZIP
from kdedge.errors import KdedgeError

PAGE = 16 * 1024
# Linkers put the program headers into this first part of a file.
HEAD = 64 * 1024
ELF_64_BIT = 2
PT_LOAD = 1


@dataclass(frozen=True)
class Library:
    """A .so file."""

    name: str
    """Path in the archive or folder."""
    problem: str = ""
    """Why it can't be loaded with pages of 16 KB, and what helps; empty if it can."""
    exempt: bool = False
    """A 32-bit library: no device with pages of 16 KB loads it."""


def page_sizes(path: Path) -> list[Library]:
    """Check the LOAD segments of every .so file, and its place in an APK.

    Args:
        path: an APK, AAB, AAR, any other zip archive, a .so file or a folder of them.

    Returns:
        The libraries, by name.

    Raises:
        KdedgeError: `path` can't be read, or has no .so file, so that nothing was checked.
    """
    try:
        found = sorted(_libraries(path), key=lambda library: library.name)
    except (*DAMAGED_ZIP, OSError) as error:
        raise KdedgeError(f"{path} can't be read: {error}") from None
    if not found:
        raise KdedgeError(f"{path} has no .so file: nothing was checked.")
    return found


def _libraries(path: Path) -> Iterator[Library]:
    if path.is_dir():
        for file in path.rglob("*.so"):
            yield _library(str(file.relative_to(path)), file.read_bytes()[:HEAD])
    elif path.suffix == ".so":
        yield _library(path.name, path.read_bytes()[:HEAD])
    else:
        with path.open("rb") as source, zipfile.ZipFile(source) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".so"):
                    with archive.open(entry) as content:
                        library = _library(entry.filename, content.read(HEAD))
                    yield library if library.problem or library.exempt else _stored(source, entry)


def _library(name: str, head: bytes) -> Library:
    if head[:4] != b"\x7fELF":
        return Library(name, "not an ELF file")
    if head[4] != ELF_64_BIT:
        return Library(name, exempt=True)
    try:
        (start,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        places = (start + size * i for i in range(count))
        headers = [struct.unpack("<2I6Q", head[place : place + 56]) for place in places]
    except struct.error:
        return Library(name, f"no program headers in its first {HEAD // 1024} KB; is it damaged?")
    # Each header has type, flags, offset, virtual address, physical address, sizes, alignment.
    loads = [
        (offset, address, align)
        for kind, _, offset, address, *_, align in headers
        if kind == PT_LOAD
    ]
    if not loads:
        return Library(name, "no LOAD segment; is it damaged?")
    smallest = min(align for _, _, align in loads)
    if smallest < PAGE:
        return Library(
            name,
            f"its LOAD segments are aligned to {smallest:,} bytes, not {PAGE:,}: use a newer "
            "version of it, or link it with -Wl,-z,max-page-size=16384",
        )
    if any((offset - address) % PAGE for offset, address, _ in loads):
        return Library(
            name,
            "a LOAD segment has another offset within a page in the file than in memory: use "
            "another version of it",
        )
    return Library(name)


def _stored(archive: BinaryIO, entry: zipfile.ZipInfo) -> Library:
    """Check the place of a library in an APK: one that is not compressed is mapped from there."""
    if entry.compress_type != zipfile.ZIP_STORED or not entry.filename.startswith("lib/"):
        return Library(entry.filename)
    # The name and the extra field follow the 30 bytes of the local header.
    archive.seek(entry.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", archive.read(4))
    begin = entry.header_offset + 30 + name_length + extra_length
    if begin % PAGE:
        return Library(
            entry.filename,
            f"it begins at byte {begin:,} of the archive, which is not a multiple of {PAGE:,}: "
            "`zipalign -P 16 4`, or Android Gradle plugin 8.5.1 or later",
        )
    return Library(entry.filename)
