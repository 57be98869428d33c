"""One cell in a process of its own; cells.py starts it.

python benchmarks/trainings.py WORK_DIR CELL_JSON
"""

import itertools
import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from cells import ROOT, Cell, commit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from kdedge import Distiller, SoftLabelLoss, build_student, load_corpus, load_teacher
from kdedge.distill.adversaries.texts import adversarial_texts
from kdedge.distill.distiller import UNLABELLED
from kdedge.distill.multitask import MultiTaskDistiller
from kdedge.distill.stage import distill_student
from kdedge.distill.terms import needs_teacher
from kdedge.distill.transfer_set import NEIGHBOURS, transfer_set
from kdedge.export.stage import export_bundle
from kdedge.export.subject import subject_of, subject_of_classifier
from kdedge.files import write_text
from kdedge.labels.average import ensemble_soft_labels
from kdedge.labels.store import SoftLabels
from kdedge.layers.pooling import TokenMean, masked
from kdedge.objectives.schedules import LearningRate
from kdedge.recipe import Distill, Export, Label, Teach
from kdedge.students.architecture import SENTENCE, TOKENS, Parts, Request, student_inputs
from kdedge.students.initial import set_token_embeddings
from kdedge.students.presets import find_preset
from kdedge.students.trained import Evaluation, Student, measures, predict_logits
from kdedge.students.transformer import mini
from kdedge.tasks import Task
from kdedge.teach.stage import finetune
from kdedge.teachers.label import label_texts
from kdedge.text.batches import shuffled_batches
from kdedge.text.corpus import Corpus
from kdedge.text.encoder import TextEncoder
from kdedge.text.neighbours import nearest_words
from kdedge.text.readers import read_rows, read_texts
from kdedge.text.splits import Split

DATA = ROOT / "data" / "movie_reviews.tsv.gz"
# An artifact that loses accuracy is to be in the table with what it lost.
EXPORT = Export(artifacts=("litert-float32", "litert-int8"), max_accuracy_drop=100)
# Few labels make few steps: epochs of the teacher by the number of labels.
FEW_EPOCHS = {100: 20, 500: 10, 2000: 4}
FEW_TEXTS = 20_000
HARD_ONLY = {"alpha": 0.0, "feature_weight": 0.0, "from_teacher": False}
# model2vec's defaults.
STATIC_WIDTH, SIF = 256, 1e-4
TFIDF_TIMED = 500
# Where one class of ratings, which go from -4 to 4, ends and the next begins.
RATINGS = (-2, -1, 0, 1, 2)


def main() -> None:
    """Do the cell and keep its result."""
    work, cell = Path(sys.argv[1]), Cell.model_validate_json(sys.argv[2])
    kinds = {
        "student": student, "attacked": attacked, "two teachers": two_teachers,
        "one task": tasks, "two tasks": tasks, "few": few,
        "tfidf": tfidf, "static": static, "stock": stock, "tinybert": tinybert,
    }  # fmt: skip
    keras.utils.set_random_seed(cell.seed)
    result = kinds[cell.kind](cell, work)
    said = {"job": cell.job, "commit": commit(), "result": result}
    write_text(cell.path(work), json.dumps(said) + "\n")


def student(cell: Cell, work: Path) -> dict[str, Any]:
    """kdedge's own stage."""
    corpus = load_corpus(DATA, split="split")
    store = SoftLabels(cell.soft_labels)
    if cell.unlabelled:
        corpus = replace(corpus, unlabelled=tuple(read_texts(work / "unlabelled.txt")))
        store = with_unlabelled(cell, corpus, store, work)
    if cell.made is not None:
        store = with_made_texts(cell, corpus, store, work)
    elif cell.texts is not None:
        corpus, store = smaller(cell, corpus, store, work)
    return learned(cell, work, corpus, store)


def attacked(cell: Cell, work: Path) -> dict[str, Any]:
    """With the train split once more, as `Substitution` changed it against the base, and labelled.

    The base of the same seed must be there.
    """
    corpus = load_corpus(DATA, split="split")
    store = with_made_texts(cell, corpus, SoftLabels(cell.soft_labels), work)
    own = cell.folder(work, "stores")
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(store.folder, own)
    base = Student.load(Cell(name="base", seed=cell.seed).folder(work, "students"))
    _, grown = adversarial_texts(
        base.model, base.encoder, load_teacher(cell.teacher), corpus.train.texts, SoftLabels(own)
    )
    return learned(cell, work, corpus, grown)


def two_teachers(cell: Cell, work: Path) -> dict[str, Any]:
    """Soft labels that are the mean of two teachers', which differ in their seed."""
    corpus = load_corpus(DATA, split="split")
    store = with_made_texts(cell, corpus, SoftLabels(cell.soft_labels), work)
    folder = work / "second_teacher"
    if not folder.exists():
        finetune(corpus, Teach(epochs=2), folder, seed=2)
    second = label_texts(load_teacher(folder), store.texts, work / "stores" / "second_teacher")
    both = cell.folder(work, "stores")
    shutil.rmtree(both, ignore_errors=True)
    return learned(cell, work, corpus, ensemble_soft_labels([store, second], both))


def learned(cell: Cell, work: Path, corpus: Corpus, store: SoftLabels) -> dict[str, Any]:
    """Figures of the student that the distillation stage makes."""
    needed = find_preset(cell.settings.student).needs_teacher or needs_teacher(cell.settings)
    folder = cell.folder(work, "students")
    shutil.rmtree(folder, ignore_errors=True)
    resumed = folder.with_name(f".{folder.name}.checkpoints").exists()
    start = time.monotonic()
    trained = distill_student(
        corpus, store, store.encoder(), cell.settings, folder, cell.seed,
        cell.teacher if needed else None,
    )  # fmt: skip
    seconds = None if resumed else time.monotonic() - start
    if cell.bundle:
        export(subject_of(trained), cell, work)
    if not cell.keep:
        shutil.rmtree(folder)
    notes = ("parameters", "transfer_texts", "history")
    return (
        figures(trained.task, trained.valid, trained.test)
        | {"seconds": seconds}
        | {key: trained.notes[key] for key in notes}
    )


def tasks(cell: Cell, work: Path) -> dict[str, Any]:
    """One encoder with a head for the polarity and, of two tasks, another for the rating."""
    corpus = load_corpus(DATA, split="split")
    store = with_made_texts(cell, corpus, SoftLabels(cell.soft_labels), work)
    encoder = store.encoder()
    texts = not_held_out(store, corpus)
    model = built(cell.settings.student, corpus, encoder)
    set_token_embeddings(model, store.token_vectors())
    heads = {"polarity": Distiller(None, model, [SoftLabelLoss(2.0)], student_loss_weight=0.1)}
    targets = {"polarity": soft_targets(store, corpus, texts)}
    if cell.kind == "two tasks":
        head = keras.layers.Dense(len(RATINGS) + 1, name="rating")
        rating = keras.Model(model.inputs, head(Parts(model).sentence))
        # The teacher says nothing of the rating: it has labels only, the soft ones no weight.
        heads["rating"] = Distiller(None, rating, [SoftLabelLoss()], [0.0], student_loss_weight=1.0)
        none = np.zeros((len(texts), len(RATINGS) + 1), np.float32)
        rated = {row.text("text"): float(row.fields["rating"]) for row in read_rows(DATA)}
        classes = [
            int(np.digitize(rated[text], RATINGS)) if text in rated else UNLABELLED
            for text in texts
        ]
        targets["rating"] = {"label": np.array(classes, np.int32), "teacher_logits": none}
    data, steps = dataset(encoder, texts, targets, cell)
    total = steps * cell.settings.epochs
    distiller = MultiTaskDistiller(heads)
    distiller.compile(
        keras.optimizers.Adam(
            LearningRate(find_preset(cell.settings.student).learning_rate, total, total // 20),
            clipnorm=1.0,
        )
    )
    distiller.fit(data, epochs=cell.settings.epochs, verbose=2)
    said = (predict_logits(model, encoder, split.texts) for split in (corpus.valid, corpus.test))
    return figures(corpus.task, *evaluations(corpus, *said))


def few(cell: Cell, work: Path) -> dict[str, Any]:
    """Few labels, a fifth of them to choose the epoch by; the other texts have none."""
    assert cell.labelled
    whole = load_corpus(DATA, split="split")
    corpus = replace(
        whole,
        train=whole.subset(cell.labelled * 4 // 5, None, cell.seed).train,
        valid=whole.subset(None, cell.labelled // 5, cell.seed).valid,
    )
    folder = cell.folder(work, "few")
    shutil.rmtree(folder, ignore_errors=True)
    teaching = Teach(epochs=FEW_EPOCHS[cell.labelled], batch_size=16)
    teacher = finetune(corpus, teaching, folder / "teacher", cell.seed)

    labelled = (*corpus.train.texts, *corpus.valid.texts, *corpus.test.texts)
    held_out = {*whole.valid.texts, *whole.test.texts, *corpus.train.texts}
    others = [text for text in SoftLabels(cell.soft_labels).texts if text not in held_out]
    chosen = np.random.default_rng(cell.seed).permutation(len(others))[:FEW_TEXTS]
    texts = [*labelled, *(others[i] for i in chosen)]
    store = label_texts(teacher, texts, folder / "soft_labels")

    def taught(store: SoftLabels, settings: Distill, name: str) -> dict[str, Any]:
        trained = distill_student(
            corpus, store, store.encoder(), settings, folder / name, cell.seed
        )
        return figures(trained.task, trained.valid, trained.test)

    said = store.lookup(corpus.valid.texts)[0], store.lookup(corpus.test.texts)[0]
    hard_only = {**cell.distill, **HARD_ONLY, "epochs": 40, "batch_size": 16}
    own_texts = part_of(store, labelled, folder / "own_texts")
    result = {
        "teacher": figures(corpus.task, *evaluations(corpus, *said)),
        "distilled": taught(store, cell.settings, "distilled"),
        "hard": taught(own_texts, Distill(**hard_only), "hard"),
        "tfidf": fitted_tfidf(corpus)[2],
    }
    shutil.rmtree(folder)
    return result


def tfidf(cell: Cell, work: Path) -> dict[str, Any]:
    """TF-IDF and logistic regression."""
    corpus = load_corpus(DATA, split="split")
    start = time.monotonic()
    vectorizer, classifier, result = fitted_tfidf(corpus)
    seconds = time.monotonic() - start
    terms = sum(len(term.encode()) for term in vectorizer.vocabulary_)
    numbers = classifier.coef_.size + classifier.intercept_.size + vectorizer.idf_.size
    times = []
    with threadpool_limits(1):
        for text in corpus.test.texts[:TFIDF_TIMED]:
            before = time.perf_counter()
            classifier.predict_proba(vectorizer.transform([text]))
            times.append(time.perf_counter() - before)
    return result | {
        "seconds": seconds,
        "bytes": terms + 4 * numbers,
        "p50_ms": 1e3 * statistics.median(times),
        "parameters": numbers,
    }


def fitted_tfidf(corpus: Corpus) -> tuple[Any, Any, dict[str, Any]]:
    """The one that does best on the valid split."""
    best: tuple[Any, ...] = (-1.0,)
    for words, strength in itertools.product((1, 2), (1, 3, 10, 30)):
        vectorizer = TfidfVectorizer(ngram_range=(1, words), sublinear_tf=True)
        classifier = LogisticRegression(C=strength, max_iter=1000)
        classifier.fit(vectorizer.fit_transform(corpus.train.texts), corpus.train.labels)
        accuracy = classifier.score(vectorizer.transform(corpus.valid.texts), corpus.valid.labels)
        if accuracy > best[0]:
            best = accuracy, vectorizer, classifier
    _, vectorizer, classifier = best
    said = [
        np.log(classifier.predict_proba(vectorizer.transform(split.texts)))
        for split in (corpus.valid, corpus.test)
    ]
    return vectorizer, classifier, figures(corpus.task, *evaluations(corpus, *said))


def static(cell: Cell, work: Path) -> dict[str, Any]:
    """A table of the teacher's token vectors and logistic regression on their mean."""
    corpus, store = load_corpus(DATA, split="split"), SoftLabels(cell.soft_labels)
    encoder = store.encoder()
    start = time.monotonic()
    model = static_model(static_table(store.token_vectors(), encoder.vocabulary), corpus, encoder)
    seconds = time.monotonic() - start
    return with_bundle(model, corpus, encoder, cell, work) | {"seconds": seconds}


def static_table(vectors: Any, vocabulary: list[str]) -> Any:
    """float32 [vocabulary, STATIC_WIDTH]: principal components, the rarer the longer.

    As model2vec has it: PCA, then weights by Zipf's law, with a piece's place in the vocabulary for
    its rank. Special tokens do not count.
    """
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred)
    table = centred @ axes[:, np.argsort(-values)[:STATIC_WIDTH]]
    chance = 1 / np.arange(2, len(table) + 2)
    table *= (SIF / (SIF + chance / chance.sum()))[:, None]
    table[[i for i, piece in enumerate(vocabulary) if piece in ("[CLS]", "[SEP]", "[PAD]")]] = 0
    return table.astype(np.float32)


def static_model(table: Any, corpus: Corpus, encoder: TextEncoder) -> keras.Model:
    """A Keras model of the table and of what logistic regression makes of the train split."""
    inputs = student_inputs()
    tokens = keras.layers.Embedding(*table.shape, weights=[table], name=TOKENS)(inputs["ids"])
    mean = TokenMean()(masked(tokens, inputs["mask"]), inputs["mask"])
    sentence = keras.layers.UnitNormalization(name=SENTENCE)(mean)
    body = keras.Model(inputs, sentence)
    train, valid = (
        predict_logits(body, encoder, split.texts) for split in (corpus.train, corpus.valid)
    )
    tried = [
        LogisticRegression(C=strength, max_iter=2000).fit(train, corpus.train.labels)
        for strength in (0.1, 1, 10, 100)
    ]
    best = max(tried, key=lambda classifier: classifier.score(valid, corpus.valid.labels))
    weights, bias = best.coef_.T, best.intercept_
    if corpus.task.width == 2:
        # Of two classes scikit-learn keeps the second one's only.
        weights, bias = np.hstack([0 * weights, weights]), np.array([0, bias[0]])
    head = keras.layers.Dense(corpus.task.width, name="logits")
    model = keras.Model(inputs, head(sentence), name="static")
    head.set_weights([weights, bias])
    return model


class Logits(keras.Model):
    """Keras's Distiller wants a teacher that gives what the student gives."""

    def __init__(self, teacher: keras.Model) -> None:
        super().__init__()
        self.teacher = teacher

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The teacher's logits."""
        return self.teacher(inputs, training=training)["logits"]


def stock_distiller(teacher: keras.Model, model: keras.Model, rate: Any) -> keras.Model:
    """Keras's own, with a live teacher, set up so that its loss is right."""
    distiller = keras.distillation.Distiller(
        teacher=Logits(teacher),
        student=model,
        distillation_losses=keras.distillation.LogitsDistillation(
            temperature=2.0, loss=keras.losses.KLDivergence()
        ),
        student_loss_weight=0.1,
    )
    distiller.compile(
        keras.optimizers.Adam(rate, clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # With XLA, Keras's default, a step of convolutions takes several times as long.
        jit_compile=False,
    )
    return distiller


def stock(cell: Cell, work: Path) -> dict[str, Any]:
    """keras.distillation.Distiller with the live teacher, on the train split, which it needs."""
    corpus = load_corpus(DATA, split="split").subset(cell.texts, None, cell.seed)
    teacher = load_teacher(cell.teacher)
    encoder = teacher.encoder
    model = built(cell.settings.student, corpus, encoder)
    start = time.monotonic()
    data, steps = dataset(encoder, corpus.train.texts, corpus.train.labels, cell)
    rate = LearningRate(1e-3, steps * cell.settings.epochs, steps // 4)
    stock_distiller(teacher, model, rate).fit(data, epochs=cell.settings.epochs, verbose=2)
    seconds = time.monotonic() - start
    return with_bundle(model, corpus, encoder, cell, work) | {"seconds": seconds}


def tinybert(cell: Cell, work: Path) -> dict[str, Any]:
    """The shape of TinyBERT-4, from scratch, on the whole store's soft labels."""
    corpus, store = load_corpus(DATA, split="split"), SoftLabels(cell.soft_labels)
    encoder = store.encoder()
    model = mini(
        Request(corpus.task, len(encoder.vocabulary), encoder.max_length), width=312, layers=4,
        heads=12, head_width=26, feed_forward=1200, name="tinybert",
    )  # fmt: skip
    texts = not_held_out(store, corpus)
    if cell.texts:
        texts = texts[:: -(-len(texts) // cell.texts)]
    start = time.monotonic()
    targets = soft_targets(store, corpus, texts)
    data, steps = dataset(encoder, texts, targets, cell)
    rate = LearningRate(3e-4, steps * cell.settings.epochs, steps // 4)
    distiller = Distiller(None, model, [SoftLabelLoss(2.0)], student_loss_weight=0.1)
    distiller.compile(keras.optimizers.Adam(rate, clipnorm=1.0))
    distiller.fit(data, epochs=cell.settings.epochs, verbose=2)
    seconds = time.monotonic() - start
    return with_bundle(model, corpus, encoder, cell, work) | {"seconds": seconds}


def not_held_out(store: SoftLabels, corpus: Corpus) -> list[str]:
    """All texts of the store that a student may learn from."""
    held_out = {*corpus.valid.texts, *corpus.test.texts}
    return [text for text in store if text not in held_out]


def soft_targets(store: SoftLabels, corpus: Corpus, texts: list[str]) -> dict[str, Any]:
    """Labels, where the train split has them, and stored soft labels."""
    label_of = dict(zip(corpus.train.texts, corpus.train.labels.tolist(), strict=True))
    labels = np.array([label_of.get(text, UNLABELLED) for text in texts], np.int32)
    return {"label": labels, "teacher_logits": store.lookup(texts)[0]}


def built(preset: str, corpus: Corpus, encoder: TextEncoder) -> keras.Model:
    """A student with new weights."""
    return build_student(
        preset,
        vocabulary=len(encoder.vocabulary),
        task=corpus.task,
        max_length=encoder.max_length,
    )


def dataset(
    encoder: TextEncoder, texts: Any, targets: Any, cell: Cell
) -> tuple[tf.data.Dataset, int]:
    """Batches as kdedge's own stage has them, in a new order each epoch; how many there are."""
    size, lengths = cell.settings.batch_size, [len(ids) for ids in encoder.token_ids(texts)]
    epochs = itertools.count()

    def batches() -> Iterator[tuple[Any, Any]]:
        for rows in shuffled_batches(lengths, size, [cell.seed, next(epochs)]):
            inputs = encoder.encode([texts[i] for i in rows]).inputs
            yield inputs, tf.nest.map_structure(lambda array, rows=rows: array[rows], targets)

    row = tf.TensorSpec([None, None], tf.int32)
    signature = (
        {name: row for name in ("ids", "mask", "segment_ids")},
        tf.nest.map_structure(
            lambda array: tf.TensorSpec([None, *array.shape[1:]], array.dtype), targets
        ),
    )
    steps = -(-len(texts) // size)
    data = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(8)
    return data.apply(tf.data.experimental.assert_cardinality(steps)), steps


def with_made_texts(cell: Cell, corpus: Corpus, store: SoftLabels, work: Path) -> SoftLabels:
    """The corpus and texts that the cell's rules make of it; each store is made once."""
    parts = [f"{rule}{count}" for rule, count in cell.rules.model_dump().items() if count]
    if cell.unlabelled:
        parts.append("unlabelled")
    folder = work / "stores" / "-".join([str(cell.made), *(parts if cell.made else ())])
    splits = (corpus.train, corpus.valid, corpus.test)
    own = [*(text for split in splits for text in split.texts), *corpus.unlabelled]
    made = SoftLabels(folder) if folder.is_dir() else part_of(store, own, folder)
    settings = Label(augmented=cell.made, mixture=cell.rules)
    neighbours = None
    if cell.rules.neighbours:
        words = np.asarray(load_teacher(cell.teacher).word_embeddings)
        neighbours = nearest_words(words, store.encoder().vocabulary, NEIGHBOURS)
    texts = transfer_set(corpus, settings, 0, neighbours)
    return label_texts(load_teacher(cell.teacher), texts, folder) if made.missing(texts) else made


def with_unlabelled(cell: Cell, corpus: Corpus, store: SoftLabels, work: Path) -> SoftLabels:
    """The store's texts and the corpus's unlabelled ones, labelled; made once."""
    folder, own = work / "stores" / "unlabelled", list(store)
    texts = [*own, *corpus.unlabelled]
    grown = SoftLabels(folder) if folder.is_dir() else part_of(store, own, folder)
    return label_texts(load_teacher(cell.teacher), texts, folder) if grown.missing(texts) else grown


def smaller(cell: Cell, corpus: Corpus, store: SoftLabels, work: Path) -> tuple[Corpus, SoftLabels]:
    """So many texts of the transfer set: of the train split first, then of the others."""
    assert cell.texts
    corpus = corpus.subset(cell.texts, None, cell.seed)
    own = (*corpus.train.texts, *corpus.valid.texts, *corpus.test.texts)
    whole = load_corpus(DATA, split="split")
    known = {*whole.train.texts, *own}
    others = [text for text in store.texts if text not in known]
    order = np.random.default_rng(cell.seed).permutation(len(others))
    chosen = [others[i] for i in order[: cell.texts - len(corpus.train)]]
    folder = cell.folder(work, "stores")
    shutil.rmtree(folder, ignore_errors=True)
    return corpus, part_of(store, [*own, *chosen], folder)


def part_of(store: SoftLabels, texts: Any, folder: Path) -> SoftLabels:
    """A store of its own for some of the texts."""
    part = SoftLabels.create(folder, store.teacher, store.task, store.has_features)
    part.keep(store.encoder(), store.token_vectors())
    part.add(list(texts), *store.lookup(texts))
    return part


def with_bundle(
    model: keras.Model, corpus: Corpus, encoder: TextEncoder, cell: Cell, work: Path
) -> dict[str, Any]:
    """Figures of a model that is no kdedge student, and its bundle."""
    subject = subject_of_classifier(cell.name, model, encoder, corpus)
    teacher = SoftLabels(cell.soft_labels)
    valid, test = (
        replace(split, teacher_logits=teacher.lookup(split.texts)[0])
        for split in (subject.valid, subject.test)
    )
    if cell.bundle:
        export(subject, cell, work)
    return figures(corpus.task, valid, test) | {"parameters": model.count_params()}


def export(subject: Any, cell: Cell, work: Path) -> None:
    """Write the cell's bundle."""
    folder = cell.folder(work, "bundles")
    shutil.rmtree(folder, ignore_errors=True)
    export_bundle(replace(subject, name=cell.name), EXPORT, folder)


def evaluations(corpus: Corpus, valid: Any, test: Any) -> tuple[Evaluation, Evaluation]:
    """What a classifier said of the two splits."""

    def one(split: Split, logits: Any) -> Evaluation:
        return Evaluation(split.texts, split.labels, logits)

    return one(corpus.valid, valid), one(corpus.test, test)


def figures(task: Task, valid: Evaluation, test: Evaluation) -> dict[str, Any]:
    """Measures of both splits, and text by text whether the label was right."""
    return {
        name: measures(task, split)
        | {"right": "".join("01"[r] for r in (split.logits.argmax(1) == split.labels).astype(int))}
        for name, split in (("valid", valid), ("test", test))
    }


if __name__ == "__main__":
    main()
