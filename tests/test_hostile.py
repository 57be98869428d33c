"""Damaged or hostile files are refused with a clear error, and never used."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_parts import READERS, SEEDS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kdedge import KdedgeError, SoftLabels, Student
from kdedge.export.litert.flatbuffer import parsed, serialized
from kdedge.files import CHECKSUMS, write_checksums
from kdedge.tasks import Classification
from kdedge.text.readers import read_texts


@st.composite
def damaged(draw: st.DrawFn, seed: bytes) -> bytes:
    """A whole file with a part cut out, repeated or replaced."""
    start = draw(st.integers(0, len(seed)))
    end = draw(st.integers(start, min(len(seed), start + 40)))
    odd = [b"null", b"-1", b"1e999", b"NaN", b"true", b"[]", b"{}", b'""', b"\xff", b"\0"]
    long = [seed[start:end] * 2, b"[" * 5000, b'{"a":' * 3000, b"9" * 5000]
    part = draw(st.one_of(st.binary(max_size=8), st.sampled_from(odd), st.sampled_from(long)))
    return seed[:start] + part + seed[end:]


@pytest.mark.parametrize("name", READERS)
def test_every_reader_reads_a_whole_file(name: str, tmp_path: Path) -> None:
    try:
        READERS[name](SEEDS[name][0], tmp_path)
    except KdedgeError as error:
        # These need other files, which are missing here.
        assert name in ("checksums", "manifest", "zip", "student", "evaluation"), error


@pytest.mark.parametrize("name", READERS)
def test_readers_refuse_what_is_damaged(name: str, tmp_path: Path) -> None:
    @settings(
        max_examples=12,
        deadline=10_000,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(st.binary(max_size=60), st.sampled_from(SEEDS[name]).flatmap(damaged)))
    @example(b"")
    @example(b"[" * 50_000)
    def read(content: bytes) -> None:
        folder = tmp_path / "read"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            READERS[name](content, folder)
        except KdedgeError as error:
            assert str(error)

    read()


def without_inputs() -> bytes:
    model = parsed(SEEDS["tflite"][0])
    model.subgraphs[0].inputs = None
    return serialized(model)


# Found by fuzzing; each was a traceback once.
FINDS = [
    ("recipe", b"name = " + b"[" * 5000, "not a readable TOML"),
    ("agent", b"[" * 50_000, "exit status 0"),
    ("agent", b"9" * 5000, "exit status 0"),
    ("encoder", b"[" * 50_000, "cannot read max_length"),
    ("tokenizer", SEEDS["tokenizer"][0].replace(b'"[UNK]":1', b'"[U]":1'), r"\[UNK\] missing"),
    ("report", SEEDS["report"][0].replace(b'"bytes":', b'"bytes": 0, "b":'), "greater than"),
    (
        "report",
        SEEDS["report"][0].replace(b'"samples_ns":[3,3]', b'"samples_ns":[0,0]'),
        "too coarse",
    ),
    ("tokenizer config", b"[" * 50_000, "tokenizer_config.json: not a readable JSON"),
    ("token vectors", b"\x93NUMPY\x01\x00v\x00" + b"[" * 118, "no array of numbers"),
    ("token vectors", b"", "no array of numbers"),
    ("zip", SEEDS["zip"][0][1:], "neither a bundle's folder nor a complete zip"),
    ("student", b"[" * 50_000, "cannot read this student"),
    ("tflite", SEEDS["tflite"][0][:-20], "not a whole .tflite file"),
    ("tflite", without_inputs(), "parts missing"),
]


@pytest.mark.parametrize(("name", "content", "message"), FINDS)
def test_finds(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(KdedgeError, match=message):
        READERS[name](content, tmp_path)


# Code and bombs; tests/test_converters.py has the zip's, tests/test_corpus.py the gzip's


def test_a_student_names_code_to_run(quick_run: Path, tmp_path: Path) -> None:
    shutil.copytree(quick_run / "student", tmp_path / "student")
    path = tmp_path / "student" / "student.keras"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for module, name, arguments in (
        ("os", "system", {"command": f"touch {tmp_path}/ran"}),
        ("subprocess", "Popen", {"args": ["touch", f"{tmp_path}/ran"]}),
        ("builtins", "eval", {"source": f"open({str(tmp_path / 'ran')!r}, 'w')"}),
    ):
        config = json.loads(parts["config.json"])
        config["config"]["layers"][0] |= {"module": module, "class_name": name,
                                          "registered_name": None, "config": arguments}  # fmt: skip
        with zipfile.ZipFile(path, "w") as archive:
            for part, content in (parts | {"config.json": json.dumps(config).encode()}).items():
                archive.writestr(part, content)
        names = [f.name for f in path.parent.iterdir() if f.name != CHECKSUMS]
        write_checksums(path.parent, names)
        with pytest.raises(KdedgeError, match="cannot read this student"):
            Student.load(path.parent)
        assert not (tmp_path / "ran").exists()


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch ran",)


def test_pickles_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SoftLabels.create(
        tmp_path / "s", "print", Classification(label_names=("a", "b")), has_features=False
    )
    np.save(tmp_path / "s" / "token_vectors.npy", np.array([Evil()], object))
    write_checksums(tmp_path / "s", ["store.json", "token_vectors.npy"])
    with pytest.raises(KdedgeError, match="token_vectors.npy: no array of numbers"):
        store.token_vectors()
    assert not (tmp_path / "ran").exists()


def test_a_parquet_bomb(tmp_path: Path) -> None:
    """100,000 rows with one text of 100,000 letters, stored once: 10 GB from a few kilobytes."""
    path = tmp_path / "bomb.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), ["x" * 100_000])
    pq.write_table(pa.table({"text": texts}), path, store_schema=False)
    assert path.stat().st_size < 20_000
    with pytest.raises(KdedgeError, match=r"expands to more than 8,589,934,592 bytes"):
        read_texts(path)
