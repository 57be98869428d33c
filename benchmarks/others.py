"""Trains other libraries' models on the data of any_data.py, for the same table.

    python3.11 -m venv others
    others/bin/pip install setfit 'model2vec[train,distill]' fasttext-wheel scikit-learn
    others/bin/python benchmarks/others.py MODEL runs/any_data/banking77-1 runs/any_data/snips-1

They need PyTorch, so they have an environment of their own, without kdedge.
MODEL is the folder of the sentence-transformers model that kdedge starts from too. Each folder gets
an others.json, from which any_data.py takes the figures; models that it has are not trained again.
"""

import csv
import json
import random
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

SEED = 1
# SetFit is for few labels: with more texts its pairs take hours on a CPU.
MOST_FOR_SETFIT = 2000

Texts = list[str]
Train = Callable[[Texts, Texts, Path], Callable[[Texts], Texts]]


def fasttext_of(texts: Texts, labels: Texts, model: Path) -> Callable[[Texts], Texts]:
    """FastText (Joulin et al. 2017, arXiv 1607.01759): words and pairs of words, 25 epochs."""
    import fasttext

    names = sorted({*labels})
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        # fastText trains in the order of the lines, and files are often sorted by label.
        for i in random.Random(SEED).sample(range(len(texts)), len(texts)):
            text, label = texts[i], labels[i]
            file.write(f"__label__{names.index(label)} {one_line(text)}\n")
        file.flush()
        trained = fasttext.train_supervised(
            file.name, epoch=25, lr=0.5, wordNgrams=2, thread=1, seed=SEED, verbose=0
        )

    def answers(texts: Texts) -> Texts:
        # The package's own `predict` does not work with numpy 2.
        predictions = [trained.f.predict(one_line(text) + "\n", 1, 0.0, "strict") for text in texts]
        return [names[int(one[0][1].removeprefix("__label__"))] for one in predictions]

    return answers


def one_line(text: str) -> str:
    """The text in lower case, as fastText's guide recommends."""
    return " ".join(text.lower().split())


def static_of(texts: Texts, labels: Texts, model: Path) -> Callable[[Texts], Texts]:
    """Token vectors of the model and a small network on their mean, as model2vec trains them."""
    from model2vec.distill import distill
    from model2vec.train import StaticModelForClassification

    classifier = StaticModelForClassification.from_static_model(
        model=distill(str(model), device="cpu")
    )
    classifier.fit(texts, labels, device="cpu", random_seed=SEED)
    return lambda texts: [str(label) for label in classifier.predict(texts)]


def setfit_of(texts: Texts, labels: Texts, model: Path) -> Callable[[Texts], Texts]:
    """SetFit (Tunstall et al. 2022, arXiv 2209.11055) with its defaults, an epoch of pairs."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    classifier = SetFitModel.from_pretrained(str(model))
    arguments = TrainingArguments(
        num_epochs=1, num_iterations=20, seed=SEED, report_to="none", save_strategy="no"
    )
    data = Dataset.from_dict({"text": texts, "label": labels})
    Trainer(model=classifier, args=arguments, train_dataset=data).train()
    return lambda texts: [str(label) for label in classifier.predict(texts)]


WAYS: dict[str, Train] = {
    "fastText": fasttext_of,
    "static embeddings (model2vec)": static_of,
    "SetFit": setfit_of,
}


def main() -> None:
    """Train each model on each folder's data, and write its figures."""
    from sklearn.metrics import accuracy_score, f1_score

    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folders", type=Path, nargs="+", help="of runs, with data.csv")
    options = parser.parse_args()
    for folder in options.folders:
        with (folder / "data.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        train, test = (
            [row for row in rows if (row["split"] == "test") == is_test]
            for is_test in (False, True)
        )
        texts, labels = ([row[name] for row in train] for name in ("text", "label"))
        path = folder / "others.json"
        figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for name, way in WAYS.items():
            if name in figures or (name == "SetFit" and len(texts) > MOST_FOR_SETFIT):
                continue
            start = time.monotonic()
            answers = way(texts, labels, options.model)([row["text"] for row in test])
            truth = [row["label"] for row in test]
            figures[name] = {
                "accuracy": float(accuracy_score(truth, answers)),
                "macro_f1": float(f1_score(truth, answers, average="macro")),
            }
            print(folder.name, name, figures[name], f"{time.monotonic() - start:.0f} s", flush=True)
            path.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
