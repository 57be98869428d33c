"""Faults outside kdedge: full disks, files that disappear, clocks, other runs, memory."""

import hashlib
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import pytest
from bench_parts import BRIEF, make_bundle
from test_cli import kdedge, refusal
from test_distill import corpus, same, store, train  # noqa: F401
from training_parts import Stop, watch_steps

from kdedge import KdedgeError, SoftLabels, Student, load_bundle
from kdedge.bench.devices.local import Local
from kdedge.bench.run import bench_bundles
from kdedge.bundle.manifest import verify
from kdedge.files import locked, new_file, new_folder, verify_checksums, write_checksums
from kdedge.tasks import Classification

LOGITS = np.zeros((1000, 2), np.float32)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# Disks


def test_a_full_disk_leaves_what_was_whole(small_disk: Path) -> None:
    labels = SoftLabels.create(
        small_disk / "s", "print", Classification(label_names=("bad", "good")), has_features=False
    )
    labels.add(["x"], LOGITS[:1])
    before = files_in(small_disk)
    rng = random.Random(0)
    texts = ["".join(chr(rng.randrange(32, 9999)) for _ in range(99)) for _ in range(1000)]
    with pytest.raises(OSError, match="No space left on device"):
        labels.add(texts, LOGITS)
    with pytest.raises(OSError, match="No space left on device"), new_file(small_disk / "x") as f:
        f.write_bytes(b"x" * 100_000)
    assert files_in(small_disk) == before
    assert SoftLabels(small_disk / "s").texts == ("x",)


@pytest.fixture(scope="module")
def undisturbed(store: SoftLabels, tmp_path_factory: pytest.TempPathFactory) -> Student:  # noqa: F811
    return train(store, tmp_path_factory.mktemp("undisturbed") / "s", epochs=2)


def test_a_full_disk_leaves_no_half_student(undisturbed: Student, small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left on device|errno = 28"):
        undisturbed.save(small_disk / "student")
    assert files_in(small_disk) == set()


def test_a_read_only_folder(small_disk: Path, quick_run: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro,size=1g", small_disk], check=True)
    output = refusal("run", Path(__file__).parent.parent / "recipes/quick.toml", "--out",
                   small_disk / "run")  # fmt: skip
    assert "disk" in output and "Read-only file system" in output
    output = refusal("export", quick_run / "student", "--out", small_disk / "bundle")
    assert "Read-only file system" in output


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal; from kdedge.files import new_file, new_folder\n"
        f"p = pathlib.Path({str(tmp_path)!r})\n"
        "with new_file(p / 'f[1]') as f, new_folder(p / 'd') as d:\n"
        "    f.write_text('half'); (d / 'x').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert len(files_in(tmp_path)) == 3
    with new_file(tmp_path / "f[1]") as file:
        file.write_text("whole")
    with new_folder(tmp_path / "d"):
        pass
    assert files_in(tmp_path) == {"f[1]", "d"}
    assert (tmp_path / "f[1]").read_text() == "whole"


# Files that disappear, clocks


def test_a_file_vanishes_under_the_benchmark(tmp_path: Path, tflite: Path) -> None:
    (tmp_path / "b").mkdir()
    other = tmp_path / "other.tflite"
    other.write_bytes(tflite.read_bytes())
    bundle = make_bundle(tmp_path / "b", "micro", {"litert-float32": tflite, "litert-int8": other})

    class Vanishing(Local):
        def run(self, subject, scenario, kind):  # type: ignore[no-untyped-def]
            (bundle / other.name).unlink(missing_ok=True)
            return super().run(subject, scenario, kind)

    with pytest.raises(FileNotFoundError, match="other.tflite"):
        bench_bundles([bundle], tmp_path / "report", BRIEF, devices=[Vanishing()])
    # The measurements are kept for the next run.
    assert list((tmp_path / "report" / "measured").glob("*.json"))


def test_checkpoints_that_are_damaged_or_disappear(
    undisturbed: Student,
    store: SoftLabels,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock also goes back ten years."""

    def again() -> Student:
        return train(store, tmp_path / "s", epochs=2)

    with monkeypatch.context() as patched:
        watch_steps(patched, stop_at=14)
        with pytest.raises(Stop):
            again()
    kept, whole = tmp_path / ".s.checkpoints", tmp_path / "whole"
    copytree(kept, whole)
    for change in (
        lambda: (kept / "state.json").write_text('{"job": '),
        lambda: next(kept.glob("latest/*.index")).unlink(),
    ):
        rmtree(kept)
        copytree(whole, kept)
        change()
        with pytest.raises(KdedgeError, match="(?s)is damaged: .* Remove this folder"):
            again()
    rmtree(kept)
    copytree(whole, kept)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 10 * 365 * 86400)
    assert same(again(), undisturbed)
    assert not kept.exists()


def test_a_clock_at_its_beginning(
    undisturbed: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1970, as on a board without a battery: zip archives have no year before 1980."""
    monkeypatch.setattr(time, "time", lambda: 1.0)
    with pytest.raises(KdedgeError, match="can't be saved: .* before 1980"):
        undisturbed.save(tmp_path / "s")
    assert not [*tmp_path.iterdir()]


# Other runs, memory


def test_leftovers_of_other_names_stay(tmp_path: Path) -> None:
    old, other = tmp_path / ".v1.abcd.partial", tmp_path / ".v1.2.abcd.partial"
    for folder in (old, other):
        folder.mkdir()
    with new_folder(tmp_path / "v1"):
        assert not old.exists() and other.exists()
    with new_folder(tmp_path / "v1.2"):
        assert not other.exists()


@pytest.mark.parametrize("path", [".", "/"])
@pytest.mark.parametrize("write", [new_file, new_folder, locked])
def test_a_path_without_a_name_is_refused(
    write: Callable[[Path], AbstractContextManager[object]], path: str
) -> None:
    with (
        pytest.raises(
            KdedgeError, match=f"^{re.escape(path)}: the name of a new folder or file is"
        ),
        write(Path(path)),
    ):
        pass


@pytest.mark.parametrize("command", ["run", "label", "teach", "distill", "export"])
def test_the_second_run_is_refused(command: str, quick_run: Path, tmp_path: Path) -> None:
    """The first run is in another process."""
    out = tmp_path / "out"
    program = (
        "import sys, pathlib; from kdedge.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", program, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdout is not None and first.stdout.readline() == b"locked\n"
    data = tmp_path / "d.csv"
    rows = (f"good {i},positive\nbad {i},negative\n" for i in range(9))
    data.write_text("text,label\n" + "".join(rows))
    recipe = Path(__file__).parent.parent / "recipes/quick.toml"
    arguments = {
        "run": [recipe],
        "label": [data, "--teacher", quick_run / "teacher"],
        "teach": [data, "--pretrained", quick_run / "teacher"],
        "distill": [data, "--soft-labels", quick_run / "soft_labels"],
        "export": [quick_run / "student"],
    }[command]
    assert "another run is at work here" in refusal(command, *arguments, "--out", out)
    first.communicate()
    with locked(out):
        pass
    assert files_in(tmp_path) == {"d.csv"}


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("ulimit -v 60000; exec", "litert-float32: on local: .*(memory|Memory|map segment)"),
        ("kill -9 $$; :", "exit status -9"),
    ],
)
def test_a_worker_runs_out_of_memory(
    limit: str, message: str, tmp_path: Path, tflite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b").mkdir()
    bundle = make_bundle(tmp_path / "b", "micro", {"litert-float32": tflite})
    python = tmp_path / "python"
    # Only the measuring process lacks memory; the machine's facts were read before.
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *environment|*state) ;; *) {limit} {sys.executable} "$@";; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(KdedgeError, match=message):
        bench_bundles([bundle], tmp_path / "report", BRIEF)


# Flipped bits


@pytest.mark.parametrize("what", ["soft_labels", "student", "bundle"])
def test_flipped_bits_are_noticed(what: str, quick_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / what
    copytree(quick_run / what, folder)

    def load() -> object:
        if what == "soft_labels":
            labels = SoftLabels(folder)
            return labels.encoder(), labels.token_vectors()
        return Student.load(folder) if what == "student" else load_bundle(folder)

    rng = np.random.default_rng(0)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for _ in range(3):
            flipped = bytearray(content)
            flipped[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            with pytest.raises(KdedgeError):
                load()
        path.write_bytes(content)
    load()


def test_checksums_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    write_checksums(tmp_path, ["b", "a"])
    # FIPS 180-4's example for "abc".
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (tmp_path / "checksums.sha256").read_text() == (
        f"{hashlib.sha256(b'').hexdigest()}  a\n{abc}  b\n"
    )
    subprocess.run(["sha256sum", "--check", "--strict", "checksums.sha256"], cwd=tmp_path,
                   check=True, capture_output=True)  # fmt: skip
    assert verify_checksums(tmp_path, ["a"], "") == {"a", "b"}
    with pytest.raises(KdedgeError, match="c is not in checksums.sha256. Make it anew."):
        verify_checksums(tmp_path, ["c"], "Make it anew.")
    (tmp_path / "a").unlink()
    with pytest.raises(KdedgeError, match="'a', which is in checksums.sha256, is missing"):
        verify_checksums(tmp_path, ["b"], "")


# Signatures


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pair of keys, made as the documentation says."""
    folder = tmp_path_factory.mktemp("keys")
    key, public = folder / "key.pem", folder / "public.pem"
    for command in (
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key],
        ["openssl", "ec", "-in", key, "-pubout", "-out", public],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return key, public


def openssl_verifies(bundle: Path, public: Path) -> bool:
    command = ["openssl", "dgst", "-sha256", "-verify", public, "-signature",
               bundle / "manifest.sig", bundle / "manifest.json"]  # fmt: skip
    return subprocess.run(command, capture_output=True).returncode == 0


def test_a_signed_bundle(keys: tuple[Path, Path], quick_run: Path, tmp_path: Path) -> None:
    key, public = keys
    bundle = tmp_path / "bundle"
    copytree(quick_run / "bundle", bundle)
    assert "is not signed" in refusal("verify", bundle, "--public-key", public)
    with pytest.raises(KdedgeError, match="is not signed"):
        load_bundle(bundle, public_key=public)
    assert kdedge("sign", bundle, "--key", key).exit_code == 0
    result = kdedge("verify", bundle, "--public-key", public)
    assert (
        result.exit_code == 0
        and "signed by the owner of" in result.output
        and "unchanged" in result.output
    )
    assert openssl_verifies(bundle, public)
    assert load_bundle(bundle, public_key=public).predict(["good"])

    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-out", other],
                   check=True, capture_output=True)  # fmt: skip
    kdedge("sign", bundle, "--key", other)
    assert not openssl_verifies(bundle, public)
    with pytest.raises(KdedgeError, match="has not signed this bundle"):
        load_bundle(bundle, public_key=public)
    # OpenSSL's signature is as good as ours.
    subprocess.run(["openssl", "dgst", "-sha256", "-sign", key, "-out", bundle / "manifest.sig",
                    bundle / "manifest.json"], check=True)  # fmt: skip
    assert load_bundle(bundle, public_key=public)
    # A manifest that was changed, with a new checksum.
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"agreement":1.0', '"agreement":0.9') + " ")
    write_checksums(bundle, ["manifest.json"])
    verify(bundle)
    with pytest.raises(KdedgeError, match="has not signed this bundle"):
        load_bundle(bundle, public_key=public)


JAVA = """
import java.nio.file.*; import java.security.*; import java.security.spec.*; import java.util.*;
class Verify {
    public static void main(String[] a) throws Exception {
        String pem = Files.readString(Path.of(a[0])).replaceAll("-----[A-Z ]+-----|\\\\s", "");
        var spec = new X509EncodedKeySpec(Base64.getDecoder().decode(pem));
        var signature = Signature.getInstance("SHA256withECDSA");
        signature.initVerify(KeyFactory.getInstance("EC").generatePublic(spec));
        signature.update(Files.readAllBytes(Path.of(a[1], "manifest.json")));
        System.out.print(signature.verify(Files.readAllBytes(Path.of(a[1], "manifest.sig"))));
    }
}
"""


@pytest.mark.skipif(
    shutil.which("java") is None, reason="no java: apt install default-jdk-headless"
)
def test_javas_own_library_verifies(
    keys: tuple[Path, Path], quick_run: Path, tmp_path: Path
) -> None:
    key, public = keys
    bundle = tmp_path / "bundle"
    copytree(quick_run / "bundle", bundle)
    assert kdedge("sign", bundle, "--key", key).exit_code == 0
    (tmp_path / "Verify.java").write_text(JAVA)
    command = ["java", tmp_path / "Verify.java", public, bundle]
    for expected in ("true", "false"):
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.stdout == expected, result.stderr
        with (bundle / "manifest.json").open("a") as file:
            file.write(" ")


def test_keys_that_are_none(keys: tuple[Path, Path], quick_run: Path, tmp_path: Path) -> None:
    bundle, rsa = quick_run / "bundle", tmp_path / "rsa.pem"
    subprocess.run(["openssl", "genrsa", "-out", rsa, "2048"], check=True, capture_output=True)
    (tmp_path / "text.pem").write_text("no key")
    for key in (rsa, tmp_path / "text.pem", tmp_path / "none.pem", keys[1]):
        assert "no private key for P-256" in refusal("sign", bundle, "--key", key)
    assert "no public key for P-256" in refusal(
        "verify", bundle, "--public-key", rsa.parent / "text.pem"
    )
    told = refusal("verify", bundle, "--public-key", keys[0])
    assert "a private key. `openssl ec -in" in told and "-pubout -out public.pem`" in told
    assert not (bundle / "manifest.sig").exists()
