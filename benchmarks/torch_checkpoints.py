"""Writes checkpoints with random weights and PyTorch's answers, for checkpoints.py.

    TORCH/bin/python benchmarks/torch_checkpoints.py TEXTS.json MINILM FOLDER

It needs PyTorch, so it has an environment of its own, without kdedge. TEXTS.json has lists: texts
to `train` tokenizers and to `compare` tokens and logits of, and the `labels`. MINILM is the folder
of all-MiniLM-L6-v2. FOLDER gets one folder for each model and format, with what transformers saves
and `expected.json`: token ids and logits.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer

TOKENS = 64
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": TOKENS + 2,
}
DISTILBERT = {
    "dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 128,
    "max_position_embeddings": TOKENS,
}
VOCABULARY = 2000
Folder = Path


def wordpiece(train: list[str], folder: Folder, lowercase: bool, *special: str) -> dict[str, str]:
    """Learn a WordPiece vocabulary; returns the arguments of a tokenizer's class."""
    learned = BertWordPieceTokenizer(lowercase=lowercase)
    tokens = special or ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    learned.train_from_iterator(train, VOCABULARY, special_tokens=list(tokens), show_progress=False)
    learned.save_model(str(folder))
    return {"vocab_file": str(folder / "vocab.txt")}


def bpe(train: list[str], folder: Folder) -> dict[str, str]:
    """Learn a byte-level BPE vocabulary."""
    learned = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learned.train_from_iterator(train, VOCABULARY, special_tokens=special, show_progress=False)
    learned.save_model(str(folder))
    files = {"vocab_file": "vocab.json", "merges_file": "merges.txt"}
    return {name: str(folder / file) for name, file in files.items()}


def unigram(train: list[str], folder: Folder) -> dict[str, str]:
    """Learn a Unigram vocabulary with sentencepiece."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(train),
        model_prefix=str(folder / "spiece"),
        vocab_size=VOCABULARY,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return {"vocab_file": str(folder / "spiece.model")}


MPNET = ("<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>")
# Family, tokenizer, classes of the model and of the tokenizer, sizes, vocabulary and settings.
Learn = Callable[[list[str], Folder], dict[str, str]]
KINDS: tuple[tuple[str, str, str, str, dict[str, Any], Learn, dict[str, Any]], ...] = (
    (
        "BERT", "WordPiece, uncased", "Bert", "Bert", SIZES,
        lambda train, folder: wordpiece(train, folder, True), {},
    ),
    (
        "BERT", "WordPiece, cased", "Bert", "Bert", SIZES,
        lambda train, folder: wordpiece(train, folder, False), {"do_lower_case": False},
    ),
    (
        "BERT", "WordPiece, accents kept", "Bert", "Bert", SIZES,
        lambda train, folder: wordpiece(train, folder, True), {"strip_accents": False},
    ),
    ("BERT", "Unigram, as e5", "Bert", "XLMRoberta", SIZES, unigram, {}),
    (
        "DistilBERT", "WordPiece, uncased", "DistilBert", "DistilBert", DISTILBERT,
        lambda train, folder: wordpiece(train, folder, True), {},
    ),
    (
        "ELECTRA", "WordPiece, uncased", "Electra", "Electra", SIZES | {"embedding_size": 32},
        lambda train, folder: wordpiece(train, folder, True), {},
    ),
    ("RoBERTa", "byte-level BPE", "Roberta", "Roberta", SIZES, bpe, {}),
    ("XLM-R", "Unigram", "XLMRoberta", "XLMRoberta", SIZES, unigram, {}),
    ("CamemBERT", "Unigram", "Camembert", "Camembert", SIZES, unigram, {}),
    ("ALBERT", "Unigram", "Albert", "Albert", SIZES | {"embedding_size": 32}, unigram, {}),
    (
        "MPNet", "WordPiece, uncased", "MPNet", "MPNet", SIZES,
        lambda train, folder: wordpiece(train, folder, True, *MPNET), {},
    ),
)  # fmt: skip


def shards(model: Any, folder: Folder) -> None:
    """Save the tensors in several files."""
    model.save_pretrained(folder, max_shard_size="100KB")


def renamed(prefix: str) -> Callable[[Any, Folder], None]:
    """Save the tensors with a prefix, as people do who save a wrapped model."""

    def save(model: Any, folder: Folder) -> None:
        model.save_pretrained(folder)
        file = folder / "model.safetensors"
        tensors = {prefix + name: tensor for name, tensor in load_file(file).items()}
        save_file(tensors, file, {"format": "pt"})

    return save


def rounded(dtype: torch.dtype) -> Callable[[Any, Folder], None]:
    """Save the tensors in half precision."""
    return lambda model, folder: model.to(dtype).save_pretrained(folder)


FORMATS: dict[str, Callable[[Any, Folder], None]] = {
    "one file": lambda model, folder: model.save_pretrained(folder),
    "shards": shards,
    "float16": rounded(torch.float16),
    "bfloat16": rounded(torch.bfloat16),
    "torch.compile": renamed("_orig_mod."),
    "DataParallel": renamed("module."),
}


def main() -> None:
    """Write all folders, and print a line for each family."""
    texts, minilm, out = json.loads(Path(sys.argv[1]).read_text("utf-8")), *map(Path, sys.argv[2:])
    # More threads would only wait for each other: the models are small.
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    named = {
        "id2label": dict(enumerate(texts["labels"])),
        "label2id": {label: i for i, label in enumerate(texts["labels"])},
    }
    for number, (family, words, model, tokenizer, sizes, learn, settings) in enumerate(KINDS):
        learned = out / f"vocabulary-{number}"
        learned.mkdir(parents=True)
        files = learn(texts["train"], learned)
        tokens = getattr(transformers, f"{tokenizer}TokenizerFast")(**files, **settings)
        config = getattr(transformers, f"{model}Config")(
            **sizes, vocab_size=len(tokens), pad_token_id=tokens.pad_token_id, **named
        )
        torch.manual_seed(number)
        classifier = getattr(transformers, f"{model}ForSequenceClassification")(config)
        randomize(classifier)
        write(family, words, classifier, tokens, texts["compare"], out / str(number))
    tokens = transformers.AutoTokenizer.from_pretrained(minilm)
    torch.manual_seed(len(KINDS))
    classifier = transformers.AutoModelForSequenceClassification.from_pretrained(minilm, **named)
    randomize(classifier.bert.pooler)
    randomize(classifier.classifier)
    name = ("all-MiniLM-L6-v2, random head", "WordPiece, uncased")
    write(*name, classifier, tokens, texts["compare"], out / str(len(KINDS)))


def randomize(model: Any) -> None:
    """Large weights: with PyTorch's initial ones, all texts get nearly the same logits."""
    for name, parameter in model.named_parameters():
        is_scale = "norm" in name.lower() and name.endswith("weight")
        torch.nn.init.normal_(parameter, 1.0 if is_scale else 0.0, 0.2)


def write(family: str, words: str, model: Any, tokens: Any, texts: list[str], out: Path) -> None:
    """Write a model in each format, with the answers of what was saved."""
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, save in FORMATS.items():
        folder = out / name
        model.float().load_state_dict(start)
        save(model, folder)
        tokens.save_pretrained(folder)
        # PyTorch runs the weights that were saved, in float32.
        model.float().eval()
        ids, logits = [], []
        for text in texts:
            one = tokens(text, truncation=True, max_length=TOKENS, return_tensors="pt")
            with torch.no_grad():
                logits.append(model(**one).logits[0].tolist())
            ids.append(one["input_ids"][0].tolist())
        expected = {"family": family, "tokenizer": words, "ids": ids, "logits": logits}
        (folder / "expected.json").write_text(json.dumps(expected), encoding="utf-8")
    print(family, words, flush=True)


if __name__ == "__main__":
    main()
