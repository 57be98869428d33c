"""How each kind of cell is trained, and what is kept of it."""

import itertools
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from benchmarks.common import Figures, Setup, emptied, needed
from benchmarks.study.grid import NO_TEACHER, Cell
from kdedge import Corpus, Distiller, SoftLabelLoss, SoftLabels, build_student, load_teacher
from kdedge.distill.adversaries.texts import adversarial_texts
from kdedge.distill.multitask import MultiTaskDistiller
from kdedge.distill.stage import distill_student
from kdedge.distill.terms import needs_teacher
from kdedge.distill.transfer_set import texts_to_label
from kdedge.export.stage import export_bundle
from kdedge.export.subject import Subject, subject_of, subject_of_classifier
from kdedge.files import write_text
from kdedge.labels.average import ensemble_soft_labels
from kdedge.layers.pooling import TokenMean, masked
from kdedge.objectives.schedules import LearningRate
from kdedge.recipe import Distill, Export, Label, fingerprint
from kdedge.students.architecture import SENTENCE, TOKENS, Parts, Request, student_inputs
from kdedge.students.initial import set_token_embeddings
from kdedge.students.presets import find_preset
from kdedge.students.trained import Evaluation, Student, measures, predict_logits
from kdedge.students.transformer import mini
from kdedge.tasks import Task
from kdedge.tasks.classification import UNLABELLED
from kdedge.teach.stage import finetune
from kdedge.teachers.label import label_texts
from kdedge.text.batches import shuffled_batches
from kdedge.text.encoder import TextEncoder
from kdedge.text.readers import read_rows, read_texts

# An artifact that loses accuracy is to be in the table with what it lost.
EXPORT = Export(artifacts=("litert-float32", "litert-int8"), max_accuracy_drop=100)
# Few labels make few steps: epochs of the teacher by the number of labels.
FEW_EPOCHS = {100: 20, 500: 10, 2000: 4}
FEW_TEXTS = 20_000
# model2vec's defaults.
STATIC_WIDTH, SIF = 256, 1e-4
TFIDF_TIMED = 500
# The second task: a column of numbers, and where one class of them ends and the next begins.
RATING, RATINGS = "rating", (-2, -1, 0, 1, 2)


def train(cell: Cell, setup: Setup) -> None:
    """Do the cell and keep its result, its student and, of students and peers, the bundle."""
    kinds: dict[str, Callable[[Cell, Setup], Figures]] = {
        "student": student, "attacked": attacked, "two teachers": two_teachers,
        "one task": tasks, "two tasks": tasks, "few": few,
        "tfidf": tfidf, "static": static, "stock": stock, "tinybert": tinybert,
    }  # fmt: skip
    keras.utils.set_random_seed(cell.seed)
    result = kinds[cell.kind](cell, setup)
    said = {"job": cell.job(), **setup.about(), "result": result}
    write_text(cell.path(setup.work), json.dumps(said) + "\n")


# Students of kdedge's own stage


def student(cell: Cell, setup: Setup) -> Figures:
    """On the transfer set that the cell names."""
    return learned(cell, setup, *transfer(cell, setup))


def attacked(cell: Cell, setup: Setup) -> Figures:
    """With the train split once more, as `Substitution` changed it against the base, and labelled.

    The base of the same seed must be there.
    """
    corpus, store = transfer(cell, setup)
    own = emptied(cell.folder(setup.work, "stores"))
    shutil.copytree(store.folder, own)
    base = Student.load(cell.model_copy(update={"name": "base"}).folder(setup.work, "students"))
    teacher = load_teacher(setup.made("teacher"))
    _, grown = adversarial_texts(
        base.model, base.encoder, teacher, corpus.train.texts, SoftLabels(own)
    )
    return learned(cell, setup, corpus, grown)


def two_teachers(cell: Cell, setup: Setup) -> Figures:
    """Soft labels that are the mean of two teachers', which differ in their seed."""
    corpus, store = transfer(cell, setup)
    folder = setup.work / "second_teacher"
    if not folder.exists():
        finetune(corpus, setup.recipe.teach, folder, seed=setup.recipe.seed + 1)
    labels = setup.work / "stores" / "second_teacher"
    second = label_texts(load_teacher(folder), store.texts, labels)
    both = emptied(cell.folder(setup.work, "stores"))
    return learned(cell, setup, corpus, ensemble_soft_labels([store, second], both))


def learned(cell: Cell, setup: Setup, corpus: Corpus, store: SoftLabels) -> Figures:
    """Figures of the student that the distillation stage makes."""
    folder = emptied(cell.folder(setup.work, "students"))
    resumed = folder.with_name(f".{folder.name}.checkpoints").exists()
    start = time.monotonic()
    trained = distilled(cell.distill, setup, corpus, store, folder, cell.seed)
    seconds = None if resumed else time.monotonic() - start
    with_bundle(cell, setup, subject_of(trained))
    notes = {key: trained.notes[key] for key in ("parameters", "transfer_texts", "history")}
    return {**figures(trained.task, trained.valid, trained.test), "seconds": seconds, **notes}


def distilled(
    settings: Distill, setup: Setup, corpus: Corpus, store: SoftLabels, out: Path, seed: int
) -> Student:
    """kdedge's stage, with the teacher for students that need it."""
    needed = find_preset(settings.student).needs_teacher or needs_teacher(settings)
    teacher = setup.made("teacher") if needed else None
    return distill_student(corpus, store, store.encoder(), settings, out, seed, teacher)


def few(cell: Cell, setup: Setup) -> Figures:
    """Few labels, a fifth of them to choose the epoch by; the other texts have none."""
    assert cell.labelled
    whole, work = setup.corpus(), emptied(cell.folder(setup.work, "few"))
    train = whole.subset(cell.labelled * 4 // 5, None, cell.seed).train
    valid = whole.subset(None, cell.labelled // 5, cell.seed).valid
    corpus = replace(whole, train=train, valid=valid)
    brief = {"epochs": FEW_EPOCHS[cell.labelled], "batch_size": 16}
    teaching = setup.recipe.teach.model_copy(update=brief)
    teacher = finetune(corpus, teaching, work / "teacher", cell.seed)
    labelled = (*train.texts, *corpus.valid.texts, *corpus.test.texts)
    held_out = {*whole.valid.texts, *whole.test.texts, *train.texts}
    others = [text for text in SoftLabels(setup.made("soft_labels")).texts if text not in held_out]
    chosen = np.random.default_rng(cell.seed).permutation(len(others))[:FEW_TEXTS]
    store = label_texts(teacher, [*labelled, *(others[i] for i in chosen)], work / "soft_labels")

    def taught(store: SoftLabels, settings: Distill, name: str) -> Figures:
        trained = distilled(settings, setup, corpus, store, work / name, cell.seed)
        return figures(trained.task, trained.valid, trained.test)

    hard = cell.distill.model_copy(update=NO_TEACHER | {"epochs": 40, "batch_size": 16})
    said = (store.lookup(split.texts)[0] for split in (corpus.valid, corpus.test))
    result = {
        "teacher": figures_of(corpus, *said),
        "distilled": taught(store, cell.distill, "distilled"),
        "hard": taught(part_of(store, labelled, work / "own_texts"), hard, "hard"),
        "tfidf": fitted_tfidf(corpus)[2],
    }
    shutil.rmtree(work)
    return result


# Transfer sets


def transfer(cell: Cell, setup: Setup) -> tuple[Corpus, SoftLabels]:
    """The corpus and soft labels that a cell learns from; a store is made once."""
    corpus, store = setup.corpus(), SoftLabels(setup.made("soft_labels"))
    if cell.unlabelled:
        path = setup.work / "unlabelled.txt"
        texts = read_texts(needed(path, "python benchmarks/unlabelled.py"))
        corpus = replace(corpus, unlabelled=tuple(texts))
        store = grown(store, [*store, *texts], setup, "unlabelled")
    if cell.made is not None:
        settings = Label(augmented=cell.made, mixture=cell.mixture)
        texts = texts_to_label(load_teacher(setup.made("teacher")), corpus, settings, 0)
        name = fingerprint(settings, str(cell.unlabelled))[:16]
        return corpus, grown(store, texts, setup, name)
    if cell.texts is not None and cell.kind == "student":
        return smaller(cell, corpus, store, setup.work)
    return corpus, store


def grown(store: SoftLabels, texts: list[str], setup: Setup, name: str) -> SoftLabels:
    """A store of these texts; those that `store` lacks are labelled."""
    folder = setup.work / "stores" / f"{name}-{store.teacher[:8]}"
    missing = {*store.missing(texts)}
    if folder.is_dir():
        there = SoftLabels(folder)
    else:
        there = part_of(store, [text for text in texts if text not in missing], folder)
    if not there.missing(texts):
        return there
    return label_texts(load_teacher(setup.made("teacher")), texts, folder)


def smaller(cell: Cell, corpus: Corpus, store: SoftLabels, work: Path) -> tuple[Corpus, SoftLabels]:
    """So many texts of the transfer set: of the train split first, then of the others."""
    assert cell.texts
    known = {*corpus.train.texts, *corpus.valid.texts, *corpus.test.texts}
    corpus = corpus.subset(cell.texts, None, cell.seed)
    own = (*corpus.train.texts, *corpus.valid.texts, *corpus.test.texts)
    others = [text for text in store.texts if text not in known]
    order = np.random.default_rng(cell.seed).permutation(len(others))
    chosen = [others[i] for i in order[: cell.texts - len(corpus.train)]]
    return corpus, part_of(store, [*own, *chosen], emptied(cell.folder(work, "stores")))


def part_of(store: SoftLabels, texts: Iterable[str], folder: Path) -> SoftLabels:
    """A store of its own for some of the texts."""
    part, own = SoftLabels.create(folder, store.teacher, store.task, store.has_features), [*texts]
    part.keep(store.encoder(), store.token_vectors())
    part.add(own, *store.lookup(own))
    return part


# Several tasks


def tasks(cell: Cell, setup: Setup) -> Figures:
    """One encoder with a head for the labels and, of two tasks, another for the rating."""
    corpus, store = transfer(cell, setup)
    encoder, texts = store.encoder(), not_held_out(store, corpus)
    model = built(cell.distill.student, corpus, encoder)
    set_token_embeddings(model, store.token_vectors())
    heads = {"labels": Distiller(None, model, [SoftLabelLoss(2.0)], student_loss_weight=0.1)}
    targets = {"labels": soft_targets(store, corpus, texts)}
    if cell.kind == "two tasks":
        head = keras.layers.Dense(len(RATINGS) + 1, name=RATING)
        rating = keras.Model(model.inputs, head(Parts(model).sentence))
        # The teacher says nothing of the rating: it has labels only, the soft ones no weight.
        heads[RATING] = Distiller(None, rating, [SoftLabelLoss()], [0.0], student_loss_weight=1.0)
        data = setup.recipe.data
        rated = {row.text(data.text): float(row.fields[RATING]) for row in read_rows(data.path)}
        classes = [int(np.digitize(rated[t], RATINGS)) if t in rated else UNLABELLED for t in texts]
        none = np.zeros((len(texts), len(RATINGS) + 1), np.float32)
        targets[RATING] = {"label": np.array(classes, np.int32), "teacher_logits": none}
    highest, warmup = find_preset(cell.distill.student).learning_rate, cell.distill.epochs / 20
    data, rate = lesson(cell, encoder, texts, targets, highest, warmup)
    distiller = MultiTaskDistiller(heads)
    distiller.compile(keras.optimizers.Adam(rate, clipnorm=1.0))
    distiller.fit(data, epochs=cell.distill.epochs, verbose=2)
    return figures_of(corpus, *said_of(model, encoder, corpus))


# What one would pick instead


def tfidf(cell: Cell, setup: Setup) -> Figures:
    """TF-IDF and logistic regression."""
    corpus, start = setup.corpus(), time.monotonic()
    vectorizer, classifier, result = fitted_tfidf(corpus)
    seconds, times = time.monotonic() - start, []
    terms = sum(len(term.encode()) for term in vectorizer.vocabulary_)
    numbers = classifier.coef_.size + classifier.intercept_.size + vectorizer.idf_.size
    with threadpool_limits(1):
        for text in corpus.test.texts[:TFIDF_TIMED]:
            before = time.perf_counter()
            classifier.predict_proba(vectorizer.transform([text]))
            times.append(time.perf_counter() - before)
    more = {"bytes": terms + 4 * numbers, "p50_ms": 1e3 * statistics.median(times)}
    return {**result, **more, "seconds": seconds, "parameters": numbers}


def fitted_tfidf(corpus: Corpus) -> tuple[Any, Any, Figures]:
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
    return vectorizer, classifier, figures_of(corpus, *said)


def static(cell: Cell, setup: Setup) -> Figures:
    """A table of the teacher's token vectors and logistic regression on their mean."""
    corpus, store = setup.corpus(), SoftLabels(setup.made("soft_labels"))
    encoder, start = store.encoder(), time.monotonic()
    model = static_model(static_table(store.token_vectors(), encoder.vocabulary), corpus, encoder)
    return trained_elsewhere(cell, setup, model, corpus, encoder, time.monotonic() - start)


def static_table(vectors: Any, vocabulary: list[str]) -> Any:
    """float32 [vocabulary, STATIC_WIDTH]: principal components, the rarer the longer.

    As model2vec has it: PCA, then weights by Zipf's law, with a token's place in the vocabulary for
    its rank. Special tokens do not count.
    """
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred)
    table = centred @ axes[:, np.argsort(-values)[:STATIC_WIDTH]]
    chance = 1 / np.arange(2, len(table) + 2)
    table *= (SIF / (SIF + chance / chance.sum()))[:, None]
    table[[i for i, token in enumerate(vocabulary) if token in ("[CLS]", "[SEP]", "[PAD]")]] = 0
    return table.astype(np.float32)


def static_model(table: Any, corpus: Corpus, encoder: TextEncoder) -> keras.Model:
    """A Keras model of the table and of what logistic regression makes of the train split."""
    inputs = student_inputs()
    tokens = keras.layers.Embedding(*table.shape, weights=[table], name=TOKENS)(inputs["ids"])
    mean = TokenMean()(masked(tokens, inputs["mask"]), inputs["mask"])
    sentence = keras.layers.UnitNormalization(name=SENTENCE)(mean)
    body = keras.Model(inputs, sentence)
    train, valid = (predict_logits(body, encoder, s.texts) for s in (corpus.train, corpus.valid))
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


def stock(cell: Cell, setup: Setup) -> Figures:
    """keras.distillation.Distiller with the live teacher, on the train split, which it needs."""
    corpus, teacher = setup.corpus(), load_teacher(setup.made("teacher"))
    encoder, train, start = teacher.encoder, corpus.train, time.monotonic()
    model = built(cell.distill.student, corpus, encoder)
    data, rate = lesson(cell, encoder, train.texts, train.labels, 1e-3, 0.25)
    stock_distiller(teacher, model, rate).fit(data, epochs=cell.distill.epochs, verbose=2)
    return trained_elsewhere(cell, setup, model, corpus, encoder, time.monotonic() - start)


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


def tinybert(cell: Cell, setup: Setup) -> Figures:
    """The shape of TinyBERT-4, from scratch, on the whole store's soft labels."""
    corpus, store = setup.corpus(), SoftLabels(setup.made("soft_labels"))
    encoder, texts = store.encoder(), not_held_out(store, corpus)
    model = mini(
        Request(corpus.task, len(encoder.vocabulary), encoder.max_length), width=312, layers=4,
        heads=12, head_width=26, feed_forward=1200, name="tinybert",
    )  # fmt: skip
    if cell.texts:
        texts = texts[:: -(-len(texts) // cell.texts)]
    start = time.monotonic()
    targets = soft_targets(store, corpus, texts)
    data, rate = lesson(cell, encoder, texts, targets, 3e-4, 0.25)
    distiller = Distiller(None, model, [SoftLabelLoss(2.0)], student_loss_weight=0.1)
    distiller.compile(keras.optimizers.Adam(rate, clipnorm=1.0))
    distiller.fit(data, epochs=cell.distill.epochs, verbose=2)
    return trained_elsewhere(cell, setup, model, corpus, encoder, time.monotonic() - start)


# What these share


def built(preset: str, corpus: Corpus, encoder: TextEncoder) -> keras.Model:
    """A student with new weights."""
    return build_student(
        preset,
        vocabulary=len(encoder.vocabulary),
        task=corpus.task,
        max_length=encoder.max_length,
    )


def not_held_out(store: SoftLabels, corpus: Corpus) -> list[str]:
    """All texts of the store that a student may learn from."""
    held_out = {*corpus.valid.texts, *corpus.test.texts}
    return [text for text in store if text not in held_out]


def soft_targets(store: SoftLabels, corpus: Corpus, texts: list[str]) -> Figures:
    """Labels, where the train split has them, and stored soft labels."""
    label_of = dict(zip(corpus.train.texts, corpus.train.labels.tolist(), strict=True))
    labels = np.array([label_of.get(text, UNLABELLED) for text in texts], np.int32)
    return {"label": labels, "teacher_logits": store.lookup(texts)[0]}


def lesson(
    cell: Cell, encoder: TextEncoder, texts: Any, targets: Any, highest: float, warmup: float
) -> tuple[tf.data.Dataset, LearningRate]:
    """Batches as kdedge's own stage has them, in a new order each epoch, and the learning rate.

    Args:
        cell: says how many texts a batch has, how many epochs there are, and the seed.
        encoder: of the texts.
        texts: to learn from.
        targets: arrays of a row a text, also in dictionaries.
        highest: learning rate after the warm-up.
        warmup: how much of an epoch that takes.
    """
    size, lengths = cell.distill.batch_size, [len(ids) for ids in encoder.token_ids(texts)]
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
    rate = LearningRate(highest, steps * cell.distill.epochs, int(steps * warmup))
    return data.apply(tf.data.experimental.assert_cardinality(steps)), rate


def trained_elsewhere(
    cell: Cell,
    setup: Setup,
    model: keras.Model,
    corpus: Corpus,
    encoder: TextEncoder,
    seconds: float,
) -> Figures:
    """Figures of a model that is no kdedge student, and its bundle."""
    subject = subject_of_classifier(cell.name, model, encoder, corpus)
    with_bundle(cell, setup, subject)
    store = SoftLabels(setup.made("soft_labels"))
    valid, test = (
        replace(split, teacher_logits=store.lookup(split.texts)[0])
        for split in (subject.valid, subject.test)
    )
    found = figures(corpus.task, valid, test)
    return {**found, "parameters": model.count_params(), "seconds": seconds}


def with_bundle(cell: Cell, setup: Setup, subject: Subject) -> None:
    """Export what is to be measured: the first seed of students and their rivals."""
    if cell.bundle:
        folder = emptied(cell.folder(setup.work, "bundles"))
        export_bundle(replace(subject, name=cell.name), EXPORT, folder)


def said_of(model: keras.Model, encoder: TextEncoder, corpus: Corpus) -> Iterator[Any]:
    """A model's logits of the valid and of the test split."""
    return (predict_logits(model, encoder, split.texts) for split in (corpus.valid, corpus.test))


def figures_of(corpus: Corpus, valid: Any, test: Any) -> Figures:
    """Figures of what a classifier said of the two splits."""
    said = ((corpus.valid, valid), (corpus.test, test))
    splits = (Evaluation(split.texts, split.labels, logits) for split, logits in said)
    return figures(corpus.task, *splits)


def figures(task: Task, valid: Evaluation, test: Evaluation) -> Figures:
    """Measures of both splits, and text by text whether the label was right."""
    return {
        name: measures(task, split)
        | {"right": "".join("01"[r] for r in (split.logits.argmax(1) == split.labels).astype(int))}
        for name, split in (("valid", valid), ("test", test))
    }
