"""Checks of native libraries against memory pages of 16 KB."""

import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest

from kdedge import KdedgeError
from kdedge.bundle.page_size import page_sizes

# e_ident, and with it the class: 1 is 32-bit, 2 is 64-bit.
MAGIC = b"\x7fELF"


def elf(*loads: tuple[int, int, int], bits: int = 64) -> bytes:
    """A shared library with only these LOAD segments: offset, address, alignment."""
    ident = MAGIC + bytes([bits // 32, 1, 1]) + bytes(9)
    # Type DYN, machine AArch64, ..., where the program headers begin, ..., their size and count.
    header = struct.pack("<HHIQQQIHHHHHH", 3, 183, 1, 0, 64, 0, 0, 64, 56, len(loads) + 1, 0, 0, 0)
    phdr = struct.pack("<2I6Q", 6, 4, 64, 64, 64, 56, 56, 8)
    segments = [struct.pack("<2I6Q", 1, 5, at, to, to, 4, 4, align) for at, to, align in loads]
    return ident + header + phdr + b"".join(segments)


GOOD = elf((0, 0, 0x4000), (0x64A8, 0x124A8, 0x4000))
BAD = elf((0, 0, 0x4000), (0x64A8, 0x74A8, 0x1000))


def problems(path: Path) -> dict[str, str]:
    return {library.name: library.problem for library in page_sizes(path)}


def test_alignment_of_segments(tmp_path: Path) -> None:
    for name, content in {
        "good": GOOD,
        "bad": BAD,
        "larger": elf((0, 0, 0x10000)),
        # Offset and address differ by 4 KB, which no page of 16 KB can map.
        "shifted": elf((0x1000, 0, 0x4000)),
        "empty": elf(),
        "text": b"not a library",
        "cut": GOOD[:100],
    }.items():
        (tmp_path / f"{name}.so").write_bytes(content)
    found = problems(tmp_path)
    assert [name for name, problem in found.items() if not problem] == ["good.so", "larger.so"]
    assert "aligned to 4,096 bytes, not 16,384" in found["bad.so"]
    assert "another offset within a page" in found["shifted.so"]
    assert "no LOAD segment" in found["empty.so"]
    assert found["text.so"] == "not an ELF file"
    assert "no program headers" in found["cut.so"]


def test_32_bit_libraries_are_exempt(tmp_path: Path) -> None:
    (tmp_path / "a.so").write_bytes(elf((0, 0, 0x1000), bits=32))
    (library,) = page_sizes(tmp_path / "a.so")
    assert library.exempt and not library.problem


def test_where_an_apk_stores_a_library(tmp_path: Path) -> None:
    """A library that is not compressed must begin at a multiple of 16 KB."""
    name = "lib/arm64-v8a/a.so"
    for padding, compression, good in (
        (0x4000, zipfile.ZIP_STORED, True),
        (0x1000, zipfile.ZIP_STORED, False),
        (0x1000, zipfile.ZIP_DEFLATED, True),
    ):
        apk = tmp_path / f"{padding}-{compression}.apk"
        with zipfile.ZipFile(apk, "w") as archive:
            # What comes before the library's bytes: two local headers with their names.
            archive.writestr("a", bytes(padding - 30 - 1 - 30 - len(name)))
            archive.writestr(name, GOOD, compression)
        assert (problems(apk) == {name: ""}) is good
        if not good:
            assert "begins at byte 4,096" in problems(apk)[name]
    # In an AAR the position does not matter: the app's build stores its libraries again.
    aar = tmp_path / "a.aar"
    with zipfile.ZipFile(aar, "w") as archive:
        archive.writestr("jni/arm64-v8a/a.so", GOOD)
        archive.writestr("jni/x86_64/a.so", BAD)
    assert [bool(problem) for problem in problems(aar).values()] == [False, True]


def test_what_was_not_checked_is_no_pass(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, "has no .so file: nothing was checked"),
        (tmp_path / "missing.apk", "can't be read"),
        (Path(__file__), "can't be read"),
    ):
        with pytest.raises(KdedgeError, match=message):
            page_sizes(path)


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
@pytest.mark.parametrize(("size", "good"), [(0x4000, True), (0x1000, False)])
def test_what_a_linker_writes(tmp_path: Path, size: int, good: bool) -> None:
    (tmp_path / "a.c").write_text("int a = 1; int f(void) { return a; }")
    page = f"-Wl,-z,max-page-size={size}"
    command = ("gcc", "-shared", "-fPIC", page, "-nostdlib", "-o", "a.so", "a.c")
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (problems(tmp_path / "a.so") == {"a.so": ""}) is good
