"""Checks the data and settings of a recipe within seconds, without TensorFlow."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from kdedge.defaults import FullTeach, full_label, full_teach
from kdedge.errors import KdedgeError
from kdedge.recipe import FOR_LABELS, STUDENTS, Data, Decide, Recipe, Teach
from kdedge.tasks import Task, task_of_config
from kdedge.tasks.intervals import ONE_SIDED_95
from kdedge.teachers.checkpoints import (
    CONFIG,
    check_teacher,
    find_pretrained,
    head_outputs,
    longest_text,
    onnx_file,
    read_config,
    revision_of,
    width_of,
)
from kdedge.teachers.classes import label_names, need_count, order_of
from kdedge.teachers.large_model.prompt import load_prompts, need_pairs, task_of
from kdedge.teachers.onnx import load_onnx_teacher
from kdedge.text.checks import Lengths, lengths_of, token_lengths
from kdedge.text.corpus import Corpus, load_corpus
from kdedge.text.decoding import Tell, tell_once
from kdedge.text.encoder import TextEncoder
from kdedge.text.pairs import Text
from kdedge.text.readers import Format, LabelForm, iter_rows, read_texts
from kdedge.text.rules import Finding, quoted, same_text
from kdedge.text.unlabelled import has_no_labels, load_unlabelled

Verdict = Literal["ok", "odd", "impossible"]
# A finding is reported above these shares of truncated texts and of unknown tokens, and below this
# number of test texts.
MANY_TRUNCATED, MANY_UNKNOWN, FEW_TEST_TEXTS = 0.1, 0.02, 10
# With an English vocabulary, 2% to 10% of the tokens of four English data sets are later pieces of
# a word, 19% of package descriptions, and 35% to 77% of a few sentences in 13 other languages.
MANY_LATER_PIECES = 0.3
MULTILINGUAL = "google-bert/bert-base-multilingual-cased"
# More tokens than any text has.
NO_END = 10**6
# Fields of [data] that apply to texts without labels.
OF_UNLABELLED = {
    "text", "text_pair", "label", "label_delimiter", "label_columns", "split", "unlabelled",
    "valid_fraction", "test_fraction", "encoding", "delimiter", "quoting", "empty_texts",
}  # fmt: skip
OF_FILES = {"path", "train_size", "eval_size", "out_of_scope"}
# Operations of a CPU core in a second of training, chosen so that recipes/movie_reviews.toml gets
# the 11 to 16 minutes that it takes on two cores; and a factor for student, export and benchmark.
A_CORE, THE_REST = 50e9, 1.5


@dataclass(frozen=True)
class Estimate:
    """A rough estimate from the shape of the pretrained model and the number of CPU cores.

    Attributes:
        minutes: time of the whole recipe without a GPU.
        memory_gb: peak memory.
        disk_gb: peak size of the run's folder.
    """

    minutes: float
    memory_gb: float
    disk_gb: float


@dataclass
class Report:
    """The result of a check.

    Attributes:
        recognised: detected formats of the files.
        rows: number of rows of each split, and of unlabelled rows.
        classes: number of rows of each label in each split; empty for scores.
        lengths: lengths in tokens of the pretrained model; None if the check ended early.
        findings: all problems.
        estimate: None if the recipe can't run.
    """

    recognised: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    lengths: Lengths | None = None
    findings: list[Finding] = field(default_factory=list)
    estimate: Estimate | None = None

    @property
    def verdict(self) -> Verdict:
        """`impossible` if the recipe can't run, `odd` if there are problems, else `ok`."""
        if any(finding.impossible for finding in self.findings):
            return "impossible"
        return "odd" if self.findings else "ok"

    def fields(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {"verdict": self.verdict, **asdict(self)}


def read_corpus(data: Data, seed: int, tell: Tell = tell_once) -> Corpus:
    """Read the corpus of a recipe, with the sizes that it sets."""
    given = data.model_dump(exclude={*Data.NO_CORPUS})
    corpus = load_corpus(**given, seed=seed, tell=tell)
    return corpus.subset(data.train_size, data.eval_size, seed)


def corpus_of(recipe: Recipe, tell: Tell = tell_once) -> Corpus:
    """Read the corpus of a recipe; with a large model as the teacher, it needs no labels."""
    if recipe.teach.large_model is None:
        return read_corpus(recipe.data, recipe.seed, tell)
    prompt = load_prompts(recipe.teach.large_model.prompt)[0]
    need_pairs(prompt, pairs=recipe.data.text_pair is not None)
    task, _ = task_of(prompt)
    return read_unlabelled(recipe.data, task, recipe.seed, tell)


def read_unlabelled(data: Data, task: Task, seed: int, tell: Tell = tell_once) -> Corpus:
    """Read the corpus for a large model, which needs no labels, with the sizes that it sets.

    Raises:
        KdedgeError: see `load_unlabelled`; or `data` has settings for labelled texts.
    """
    if needless := data.model_fields_set - OF_UNLABELLED - OF_FILES:
        raise KdedgeError(
            f"data: {', '.join(sorted(needless))}: not allowed with a large model, because its "
            "prompts define the task. Leave them out."
        )
    given = data.model_dump(include=OF_UNLABELLED)
    corpus = load_unlabelled(data.path, task, **given, seed=seed, tell=tell)
    return corpus.subset(data.train_size, data.eval_size, seed)


def texts_out_of_scope(data: Data) -> tuple[Text, ...]:
    """The texts of `data.out_of_scope`, which has the columns and the format of the data."""
    if data.out_of_scope is None:
        return ()
    form = Format(data.encoding, data.delimiter, data.quoting)
    return tuple(read_texts(data.out_of_scope, data.text, form, data.empty_texts, data.text_pair))


def in_and_out_of_scope(corpus: Corpus, out_of_scope: Sequence[Text]) -> list[Finding]:
    """A finding about texts that the data has both with a label and as out of scope."""
    splits = (corpus.train, corpus.valid, corpus.test) if out_of_scope else ()
    known = {same_text(text) for split in splits for text in split.texts}
    return Finding.of_each(
        "in and out of scope",
        [quoted(text) for text in out_of_scope if same_text(text) in known],
        "texts out of scope that are in the data too",
        "kept; remove them from one of the two files",
    )


def all_labelled(data: Data) -> bool:
    """Whether each row of a file has a label."""
    form = Format(data.encoding, data.delimiter, data.quoting)
    label = LabelForm(data.label, data.label_delimiter, data.label_columns)
    rows = iter_rows(data.path, form, lambda _: None)
    return all(label.of(row)[0] not in (None, "") for row in rows)


def check_recipe(recipe: Recipe) -> Report:
    """Check a recipe. Errors that the user can fix are findings; none is raised."""
    report, told = Report(), list[str]()
    try:
        corpus = corpus_of(recipe, told.append)
    except KdedgeError as error:
        report.recognised = told
        report.findings.append(_impossible("data", str(error)))
        return report
    data, asked = recipe.data, recipe.teach.large_model
    labels = LabelForm(data.label, data.label_delimiter, data.label_columns)
    by = f"{asked.model} at {asked.url}" if asked else labels
    report.recognised = [
        f"{data.path}: {corpus.task.name} of column {data.text!r}"
        + (f" with column {data.text_pair!r}" if data.text_pair else "")
        + f" by {by}",
        *([] if corpus.task.counts(corpus.train.labels) else [str(corpus.task)]),
        *told[: len(told) - len(corpus.findings)],
    ]
    splits = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    report.rows = {
        **{part: len(split) for part, split in splits.items()},
        "unlabelled": len(corpus.unlabelled),
    }
    # Unknown for texts without labels.
    if asked is None:
        counts = {part: corpus.task.counts(split.labels) for part, split in splits.items()}
        report.classes = {
            name: {part: of.get(name, 0) for part, of in counts.items()} for name in counts["train"]
        }
    report.findings += [*corpus.findings, *_small_classes(report.classes), *_settings(recipe)]
    report.findings += check_decide(corpus, recipe.decide, recipe.data.out_of_scope)
    try:
        report.findings += in_and_out_of_scope(corpus, texts_out_of_scope(recipe.data))
    except KdedgeError as error:
        report.findings.append(_impossible("out of scope", str(error)))
    try:
        if asked is None:
            check_teacher(recipe.teach.source, classifies=recipe.teach.teacher is not None)
        full = full_teaching(corpus, recipe.teaching)
        if recipe.teach.teacher and onnx_file(recipe.teach.teacher):
            load_onnx_teacher(recipe.teach.teacher, max_length=full.max_length)
        report.lengths, found = check_pretrained(corpus, full, recipe.given_lengths)
        report.findings += [*found, *_classes(corpus, recipe.teaching, recipe.data.labels)]
        report.estimate = _estimate(recipe, corpus, full, report.lengths)
    except KdedgeError as error:
        report.findings.append(_impossible("pretrained model", str(error)))
    return report


def check_pretrained(
    corpus: Corpus, settings: FullTeach, given_lengths: Mapping[str, int] = MappingProxyType({})
) -> tuple[Lengths, list[Finding]]:
    """Check a corpus with the tokenizer of the pretrained model.

    Args:
        corpus: the data.
        settings: the complete settings of fine-tuning.
        given_lengths: lengths in tokens by the settings that ask for them, for messages.

    Raises:
        KdedgeError: the model does not exist, or is not a pretrained model.
    """
    folder, config = _model(settings)
    encoder = TextEncoder.from_pretrained(folder, NO_END)
    texts = [*corpus.train.texts, *corpus.valid.texts, *corpus.test.texts]
    longest = settings.max_length
    lengths = lengths_of(texts, encoder, longest)
    findings = []
    positions = longest_text(config)
    if positions is not None and longest > positions:
        lengths_given = given_lengths or {"teach.max_length": longest}
        name, *others = (name for name, length in lengths_given.items() if length > positions)
        what = f"{name} {'has' if name.endswith('lengths') else 'is'} {lengths_given[name]}"
        findings.append(
            _impossible(
                "max_length",
                f"{what}, but {settings.source} takes at most {positions} tokens. Set a lower one"
                + (f" there and in {', '.join(others)}" if others else "")
                + (", --max-length." if name == "teach.max_length" else "."),
            )
        )
    if lengths.truncated > MANY_TRUNCATED:
        findings.append(
            Finding(
                "truncated texts",
                round(lengths.truncated * len(texts)),
                f"texts of more than {longest} tokens",
                "",
                f"truncated; max_length = {lengths.p95} would keep 95% of the texts whole",
            )
        )
    is_multilingual = "multilingual" in settings.source.lower()
    if lengths.unknown > MANY_UNKNOWN:
        too_many = lengths.unknown > settings.max_unknown
        remedy = (
            "refused: use a pretrained model that knows them"
            + ("" if is_multilingual else f", such as {MULTILINGUAL}")
            + ", or allow it with max_unknown in [teach], --max-unknown"
        )
        findings.append(
            Finding(
                "unknown tokens",
                round(100 * lengths.unknown),
                f"tokens unknown to {settings.source}, in percent",
                quoted(lengths.unknown_text),
                remedy if too_many else "each becomes the same token, whatever it is",
                impossible=too_many,
            )
        )
    elif lengths.later_pieces > MANY_LATER_PIECES:
        findings.append(
            Finding(
                "words in pieces",
                round(100 * lengths.later_pieces),
                f"tokens that continue a word that {settings.source} does not have whole (texts in "
                "another language?), in percent",
                "",
                "kept; compare with a model for this language"
                + ("" if is_multilingual else f", or {MULTILINGUAL}"),
            )
        )
    return lengths, findings


def full_teaching(corpus: Corpus, settings: Teach) -> FullTeach:
    """The complete settings of fine-tuning for this corpus.

    Raises:
        KdedgeError: the pretrained model does not exist, or the task does not have the metric.
    """
    folder, config = _model(settings)
    longest, lengths = longest_text(config) or NO_END, list[int]()
    if settings.max_length is None:
        encoder = TextEncoder.from_pretrained(folder, NO_END)
        lengths = token_lengths(corpus.train.texts, encoder)
    width = width_of(config)
    return full_teach(settings, corpus.task, corpus.train, lengths, longest, width)


def check_decide(corpus: Corpus, decide: Decide, out_of_scope: Path | None) -> list[Finding]:
    """Find requirements in [decide] that no model can meet with this corpus."""
    if not corpus.task.has_confidence and (decide.asks or out_of_scope):
        return [_impossible("decide", FOR_LABELS.format(corpus.task.name))]
    if decide.precision is None:
        return []
    # The number of labels that are enough if all are right: Wilson's interval with half of the
    # count, as in `kdedge.export.trust`.
    needed = math.ceil(2 * decide.precision * ONE_SIDED_95**2 / (1 - decide.precision))
    if has_no_labels(corpus.valid, corpus.task):
        # A large model's answers will be the labels.
        return []
    positives = int(corpus.task.truth(corpus.valid.labels).sum())
    if positives >= needed:
        return []
    return [
        _impossible(
            "precision",
            f"decide.precision is {decide.precision} and the texts of the valid split have "
            f"{positives:,} labels; at least {needed:,} are needed, even if all predictions are "
            "right. Raise valid_fraction in [data], lower the precision, or set coverage instead.",
        )
    ]


def check_teaching(
    corpus: Corpus,
    settings: Teach,
    names: Mapping[str, str] = MappingProxyType({}),
    given_lengths: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Show problems of a corpus with a pretrained model, before it is fine-tuned.

    Args:
        corpus: the data.
        settings: the recipe's section `teach`.
        names: the data's name for each class that the model calls something else.
        given_lengths: as for `check_pretrained`.

    Raises:
        KdedgeError: fine-tuning is impossible.
    """
    if settings.large_model is None:
        check_teacher(settings.source, classifies=settings.teacher is not None)
    lengths, findings = check_pretrained(corpus, full_teaching(corpus, settings), given_lengths)
    tell_once(f"texts are truncated to {lengths.limit} tokens; {lengths.truncated:.1%} are longer")
    # A ready teacher is checked later, when it is tried on texts.
    if not settings.teacher:
        findings += _classes(corpus, settings, names)
    for finding in findings:
        if finding.impossible:
            raise KdedgeError(finding.line())
        tell_once(finding.line())


def _model(settings: Teach) -> tuple[Path, dict[str, Any]]:
    """The folder and the config.json of the recipe's pretrained model or teacher."""
    folder = find_pretrained(settings.source, weights=False)
    if onnx_file(settings.source) and not (folder / CONFIG).is_file():
        return folder, {}
    return folder, read_config(folder)


def _classes(corpus: Corpus, settings: Teach, names: Mapping[str, str]) -> list[Finding]:
    """Check that a fine-tuned model has the classes of the data."""
    folder, config = _model(settings)
    made_for = config.get("architectures") or ()
    has_head = any(name.endswith("ForSequenceClassification") for name in made_for)
    model_labels = label_names(config, settings.source)
    new_head = settings.start in ("probe", "random")
    if new_head or not model_labels or not (has_head or settings.teacher):
        if not names:
            return []
        what = f"names in [data.labels], but {settings.source} gets a new head"
        return [Finding("unused names", len(names), what, repr([*names][0]), "not used")]
    try:
        # Weights of a model on the hub are not here yet; an ONNX file is tried as a whole.
        if revision_of(folder) is None and not onnx_file(settings.source):
            outputs = head_outputs(folder)
            if outputs is not None:
                need_count(model_labels, outputs, folder)
        model_task = task_of_config(config, model_labels, settings.source)
        order_of(model_task, names, corpus.task, settings.source)
    except KdedgeError as error:
        return [_impossible("classes", str(error))]
    return []


def _impossible(kind: str, words: str) -> Finding:
    return Finding(kind, 1, words, "", "", impossible=True)


def _small_classes(classes: dict[str, dict[str, int]]) -> list[Finding]:
    small = [name for name, count in classes.items() if count["test"] < FEW_TEST_TEXTS]
    absent = [name for name, count in classes.items() if not count["valid"]]
    findings = []
    if small:
        findings.append(
            Finding(
                "small classes",
                len(small),
                f"labels with fewer than {FEW_TEST_TEXTS} test texts",
                ", ".join(f"{name}: {classes[name]['test']}" for name in small[:3]),
                "kept; the accuracy on them will be uncertain",
            )
        )
    if absent:
        findings.append(
            Finding(
                "no valid texts",
                len(absent),
                "labels without a valid text",
                ", ".join(absent[:3]),
                "kept, but epochs and thresholds are chosen without them",
            )
        )
    return findings


def _settings(recipe: Recipe) -> list[Finding]:
    """Find settings that contradict each other, and unknown students."""
    student, findings = recipe.distill.student, []
    if ":" not in student and student not in STUDENTS:
        allowed = f"Allowed: {', '.join(STUDENTS)}, or module:NAME of a Python file of your own."
        findings.append(
            _impossible("student", f"distill.student: {student!r} is unknown. {allowed}")
        )
    teach, distill = recipe.teaching.max_length, recipe.distill.max_length
    if teach is not None and distill is not None and distill > teach:
        findings.append(
            _impossible(
                "max_length",
                f"distill.max_length is {distill}, but teach.max_length is {teach}: the teacher "
                f"labels only the first {teach} tokens of a text. Set both to the same number.",
            )
        )
    return findings


def _estimate(
    recipe: Recipe, corpus: Corpus, teach: FullTeach, lengths: Lengths
) -> Estimate | None:
    _, config = _model(recipe.teach)
    try:
        width, layers = config["hidden_size"], config["num_hidden_layers"]
        inner, vocabulary = config["intermediate_size"], config["vocab_size"]
        blocks = layers * (4 * width**2 + 2 * width * inner)
        parameters = blocks + width * vocabulary
    except (KeyError, TypeError):
        return None
    labelled = [len(split) for split in (corpus.train, corpus.valid, corpus.test)]
    augmented = full_label(recipe.label, corpus).augmented
    texts = sum(labelled) + len(corpus.unlabelled) + augmented
    # Two operations for each weight and token forward, and twice as many backward.
    work = 6 * labelled[0] * teach.epochs + 2 * (texts + sum(labelled))
    seconds = THE_REST * work * blocks * lengths.mean / (A_CORE * len(os.sched_getaffinity(0)))
    tokens = teach.batch_size * min(teach.max_length, lengths.longest)
    # Weights, gradients and two moments; about twenty arrays for each layer; TensorFlow itself.
    training = 16 * parameters + 80 * tokens * width * layers + 2e9
    # Two copies of the teacher's float32 file for each of five lengths, and a conversion.
    exporting = 64 * parameters + 1.5e9
    # Space for fine-tuning; vectors of the soft labels; the teacher and its bundle.
    disk = 32 * parameters + 4 * texts * width + 16 * parameters
    return Estimate(seconds / 60, max(training, exporting) / 1e9, disk / 1e9)
