"""The texts that the teacher labels, and those of them that the student learns from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from kdedge.defaults import full_label
from kdedge.errors import KdedgeError
from kdedge.labels.store import SoftLabels
from kdedge.recipe import Label, Mixture
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.classes import Counts, counts_of, order_of, swap_warning
from kdedge.teachers.teacher import Teacher
from kdedge.text.augment import augmented, some_with_typos
from kdedge.text.batches import chunks
from kdedge.text.corpus import Corpus
from kdedge.text.decoding import tell_once
from kdedge.text.encoder import TextEncoder, Tokens
from kdedge.text.neighbours import nearest_words
from kdedge.text.pairs import Text
from kdedge.text.vocabulary import words_in

TOKENIZED_TOGETHER = 4096
# Number of candidates of the augmentation rule `neighbours`.
NEIGHBOURS = 8


def texts_to_label(teacher: Teacher, corpus: Corpus, settings: Label, seed: int) -> list[Text]:
    """The transfer set: the corpus, and augmented texts of its train split.

    Args:
        teacher: the teacher, for the words of its vocabulary and their neighbours, if the mixture
            uses them.
        corpus: the corpus.
        settings: the recipe's section `label`: number and mixture of augmented texts.
        seed: seed of the augmentation.

    Raises:
        KdedgeError: the mixture uses neighbours, which this teacher does not have.
    """
    full = full_label(settings, corpus)
    sources = (*corpus.train.texts, *corpus.unlabelled)
    mixture = full.mixture.model_dump()
    neighbours, vocabulary = None, list[str]()
    if mixture["words"]:
        vocabulary = words_in(teacher.encoder, sources)
        if not vocabulary:
            tell_once(
                "label.mixture.words: not used, because the teacher's vocabulary has no words in "
                "the scripts of the texts"
            )
            mixture["words"] = 0
    if mixture["neighbours"]:
        has_words = isinstance(teacher, BertTeacher) and teacher.encoder.is_berts
        check_mixture(settings.mixture, has_words)
        assert isinstance(teacher, BertTeacher)
        vectors = np.asarray(teacher.word_embeddings)
        neighbours = nearest_words(vectors, teacher.encoder.vocabulary, NEIGHBOURS)
    new = augmented(sources, full.augmented, seed, mixture, neighbours, vocabulary)
    held_out = {*corpus.valid.texts, *corpus.test.texts}
    return [
        *corpus.train.texts,
        *corpus.valid.texts,
        *corpus.test.texts,
        *corpus.unlabelled,
        *(text for text in new if text not in held_out),
    ]


def check_mixture(mixture: Mixture, has_words: bool) -> None:
    """Check that a teacher has what a mixture of augmented texts needs.

    Args:
        mixture: the mixture.
        has_words: whether the teacher has vectors of word pieces that are words.

    Raises:
        KdedgeError: it does not.
    """
    if mixture.neighbours and not has_words:
        raise KdedgeError(
            "label.mixture.neighbours: needs a BERT that is no ONNX file and has BERT's "
            "WordPiece, whose pieces are words. Set it to 0."
        )


def in_order_of_corpus(store: SoftLabels, corpus: Corpus, names: Mapping[str, str]) -> SoftLabels:
    """The store with its logits in the order of the corpus's classes, by name.

    Shows a warning if its classes look exchanged.

    Args:
        store: soft labels.
        corpus: the corpus; its texts help to guess a map for the error message.
        names: the corpus's name for some of the store's classes.

    Raises:
        KdedgeError: the classes don't match.
    """
    own, task = store.task, corpus.task
    if own.name != task.name:
        return store
    if own.width != task.width:
        raise KdedgeError(
            f"{store.folder}: the soft labels are for {own}, and the data has {task}. Label the "
            "texts with a teacher that has the data's classes: kdedge label."
        )
    train = corpus.train
    counts: Counts | None = None
    if task.has_classes:
        known = np.flatnonzero((store.index.rows(train.texts) >= 0) & (train.labels >= 0))
        if len(known):
            logits = store.lookup([train.texts[i] for i in known])[0]
            counts = counts_of(logits, train.labels[known])
    as_it_is = own.output_names == task.output_names and not names
    order = [*range(own.width)] if as_it_is else order_of(own, names, task, store.folder, counts)
    theirs = [own.output_names[i] for i in order]
    if counts is not None and (found := swap_warning(counts[order], task, theirs)):
        tell_once(f"{store.folder}: {found}")
    return store if as_it_is else store.in_order(order, task)


class TransferSet:
    """The texts of a store except the valid and test texts, read from disk.

    Args:
        store: the soft labels.
        corpus: the corpus, for the held-out texts and the labels of its train split.

    Attributes:
        rows: rows of the texts in the store.
        labels: one row for each text; the task's mark for missing labels.

    Raises:
        KdedgeError: a text of the train split has no soft label.
    """

    def __init__(self, store: SoftLabels, corpus: Corpus) -> None:
        self.store = store
        self._held_out = {*corpus.valid.texts, *corpus.test.texts}
        labels = corpus.task.unlabelled(len(store))
        labels[store.rows(corpus.train.texts)] = corpus.train.labels
        learned = np.fromiter((text not in self._held_out for text in store), bool)
        self.rows = np.flatnonzero(learned)
        self.labels = labels[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Text]:
        return (text for text in self.store if text not in self._held_out)

    def token_ids(
        self, encoder: TextEncoder, file: Path, typos: float = 0.0, seed: Sequence[int] = (0,)
    ) -> "TokenIds":
        """The texts as token ids.

        Args:
            encoder: text encoder of the student.
            file: file to write them to.
            typos: share of the texts that get typos.
            seed: equal seeds give equal typos.
        """
        return TokenIds(encoder, some_with_typos(self, typos, seed) if typos else self, file)


class TokenIds:
    """Tokens of many texts, one after the other in a file that memory does not hold.

    A token of a pair's second text is there as -1 less its id.
    """

    def __init__(self, encoder: TextEncoder, texts: Iterable[Text], file: Path) -> None:
        lengths = []
        # A file of an earlier run may still be mapped.
        file.unlink(missing_ok=True)
        with file.open("wb") as written:
            for chunk in chunks(texts, TOKENIZED_TOGETHER):
                rows = encoder.tokens(chunk)
                ids = np.fromiter(chain.from_iterable(row.ids for row in rows), np.int32)
                second = np.fromiter(chain.from_iterable(row.segments for row in rows), bool)
                np.where(second, -1 - ids, ids).astype(np.int32).tofile(written)
                lengths.append(np.array([len(row.ids) for row in rows], np.int32))
        self.lengths = np.concatenate(lengths)
        self._ids, self._ends = np.memmap(file, np.int32, "r"), np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def of(self, row: int) -> Tokens:
        """The tokens of one text or pair."""
        end = self._ends[row]
        stored = self._ids[end - self.lengths[row] : end]
        second = stored < 0
        return Tokens(np.where(second, -1 - stored, stored).tolist(), second.astype(int).tolist())
