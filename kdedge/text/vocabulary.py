"""Vocabularies of students: always WordPiece, which other clients can read."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import chain, islice
from math import ceil
from string import ascii_lowercase, digits, printable

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as Joined
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer

from kdedge.text.augment import UNSPACED
from kdedge.text.encoder import LENGTH_STEP, TextEncoder, cls_and_sep
from kdedge.text.pairs import Text, parts_of

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# The size of BERT's vocabulary; the number of characters that are always kept.
PIECES, CHARACTERS = 30_000, 8_000
LEAST_COUNT = 2
# Texts whose tokens are counted to find a student's length, and the longest.
SAMPLE, LONGEST = 2_000, 512
NO_SCRIPT = ""
WORD = re.compile(f"[{UNSPACED}]|[^\\W{UNSPACED}]+")


def student_encoder(teacher_encoder: TextEncoder, texts: Iterable[Text]) -> TextEncoder:
    """The text encoder for students: the teacher's, if it is BERT's WordPiece, or a learned one.

    Students have WordPiece, because apps, MediaPipe and transformers.js can read it. Texts are
    truncated on the right, as in these clients. A learned vocabulary has its own `max_length`, so
    that a student reads as much of a text as the teacher: Chinese, for instance, has more tokens in
    WordPiece, which splits it into characters, than in a Unigram model.

    Args:
        teacher_encoder: text encoder of the teacher.
        texts: the texts that the teacher labels; they are read twice.
    """
    if not teacher_encoder.is_berts:
        learned, sample = wordpiece_of(texts, LONGEST), [*islice(texts, SAMPLE)]
        whole = Tokenizer.from_str(teacher_encoder.tokenizer.to_str())
        student_tokens, teacher_tokens = (
            sum(map(len, encoder.token_ids(sample)))
            for encoder in (learned, TextEncoder(whole, LONGEST, teacher_encoder.pad_id))
        )
        length = teacher_encoder.max_length * student_tokens / teacher_tokens
        length = ceil(length / LENGTH_STEP) * LENGTH_STEP
        return TextEncoder(learned.tokenizer, max(teacher_encoder.max_length, min(length, LONGEST)))
    tokenizer = Tokenizer.from_str(teacher_encoder.tokenizer.to_str())
    return TextEncoder(tokenizer, teacher_encoder.max_length, teacher_encoder.pad_id)


def wordpiece_of(texts: Iterable[Text], max_length: int) -> TextEncoder:
    """Learn a WordPiece vocabulary with BERT's rules, in lower case, with accents and vowel signs.

    MediaPipe supports lower case only. Accents and vowel signs are kept because they distinguish
    words in Hindi, Thai or Vietnamese. All characters of the texts are pieces, both at the start
    of a word and inside it, so that unseen words can be split. Equal texts give equal pieces.

    Args:
        texts: at least one text; they are read once.
        max_length: length that texts are truncated to, in tokens.
    """
    learner = _bert(WordPiece(unk_token=SPECIAL[1]))
    words: Counter[str] = Counter()
    for part in chain.from_iterable(map(parts_of, texts)):
        normal = learner.normalizer.normalize_str(part)
        words.update(word for word, _ in learner.pre_tokenizer.pre_tokenize_str(normal))
    counts: Counter[str] = Counter()
    inside = {*ascii_lowercase, *digits}
    for word, count in words.items():
        counts.update({c: count * n for c, n in Counter(word).items()})
        inside.update(word if len(word) > 1 else "")
    by_count = sorted(counts, key=lambda c: (-counts[c], c))[:CHARACTERS]
    kept = {*by_count, *(c for c in printable.lower() if not c.isspace())}
    characters = [*sorted(kept), *(f"##{c}" for c in sorted(kept & inside))]
    learner.train_from_iterator(
        # Each word is repeated, because the trainer takes no counts.
        (word for word, count in sorted(words.items()) for _ in range(count)),
        WordPieceTrainer(
            vocab_size=PIECES,
            min_frequency=LEAST_COUNT,
            # With fixed ids, because the trainer breaks ties between equal counts at random.
            special_tokens=[*SPECIAL, *characters],
            initial_alphabet=sorted(kept),
            limit_alphabet=len(kept),
            show_progress=False,
        ),
    )
    learnt = learner.get_vocab()
    pieces = dict.fromkeys([*SPECIAL, *characters, *sorted(learnt, key=learnt.__getitem__)])
    most = max(PIECES, len(SPECIAL) + len(characters))
    new = _bert(WordPiece({p: i for i, p in enumerate(list(pieces)[:most])}, unk_token=SPECIAL[1]))
    new.add_special_tokens(SPECIAL)
    new.decoder, new.post_processor = Joined(), cls_and_sep(new)
    return TextEncoder(new, max_length)


def text_of(piece: str) -> str:
    """The characters of a word piece; "" for special tokens.

    >>> text_of("##ing"), text_of("[PAD]")
    ('ing', '')
    """
    return "" if piece in SPECIAL else piece.removeprefix("##")


def words_in(encoder: TextEncoder, texts: Iterable[Text]) -> list[str]:
    """The whole words of a vocabulary that are in the scripts of the texts.

    A script counts if at least 1% of the letters are in it. Single letters are words in scripts
    without spaces only.

    Args:
        encoder: text encoder with the vocabulary.
        texts: the texts; they are read once.
    """
    characters: Counter[str] = Counter()
    for part in chain.from_iterable(map(parts_of, texts)):
        characters.update(part)
    counts: Counter[str] = Counter()
    for character, count in characters.items():
        counts[_script(character)] += count
    del counts[NO_SCRIPT]
    scripts = {script for script, count in counts.items() if 100 * count >= counts.total()}
    whole = _bert_word if encoder.is_berts else _spaced_word
    return [
        word
        for word in dict.fromkeys(map(whole, encoder.vocabulary))
        if {*map(_script, word)} <= scripts and (len(word) > 1 or re.match(f"[{UNSPACED}]", word))
    ]


def unseen_share(texts: Iterable[Text], known: Iterable[Text]) -> float:
    """The share of the words of some texts that are in none of the known texts; 0 without words.

    >>> unseen_share(["A dull film."], ["a moving film"])
    0.3333333333333333
    """
    seen = {word for text in known for word in _words(text)}
    words = [word for text in texts for word in _words(text)]
    return sum(word not in seen for word in words) / max(1, len(words))


def _words(text: Text) -> list[str]:
    """The words in lower case, without punctuation; in scripts without spaces, the characters."""
    return [word for part in parts_of(text) for word in WORD.findall(part.lower())]


def _script(character: str) -> str:
    """The script of a letter or vowel sign, by the first word of its name: LATIN, CJK and so on."""
    if unicodedata.category(character)[0] not in "LM":
        return NO_SCRIPT
    return unicodedata.name(character, NO_SCRIPT).partition(" ")[0]


def _bert_word(piece: str) -> str:
    return "" if piece.startswith("##") else piece


def _spaced_word(piece: str) -> str:
    """The word of a piece that begins with a space, as sentencepiece and GPT-2 write it.

    In scripts without spaces, all pieces count.
    """
    if piece.startswith(("\u2581", "\u0120")):
        return piece[1:]
    return piece if re.fullmatch(f"[{UNSPACED}]+", piece) else ""


def _bert(model: WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer
