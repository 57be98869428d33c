"""The parts of a student architecture: its inputs, its named layers, and its preset."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kdedge.errors import KdedgeError
from kdedge.objectives import objective_of
from kdedge.tasks import Task
from kdedge.teachers.bert import BertTeacher
from kdedge.text.corpus import Corpus

# Names of the layers that `Parts` looks for, in new and in saved students.
TOKENS, POSITIONS, SEGMENTS, SENTENCE = "tokens", "positions", "segments", "sentence"


def attention_name(block: int) -> str:
    """The name of a transformer block's self-attention."""
    return f"attention_{block}"


def output_name(block: int) -> str:
    """The name of the last layer of a transformer block."""
    return f"dense_norm_{block}"


def student_inputs() -> dict[str, Any]:
    """The inputs: int32 [batch, length] `ids`, `mask` (0 for padding) and `segment_ids`."""
    return {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("ids", "mask", "segment_ids")
    }


@dataclass(frozen=True)
class Request:
    """Facts that a preset needs to build a student.

    Attributes:
        task: task of the student, which sets the number of its logits.
        vocabulary: number of token ids.
        max_length: longest input in tokens.
        teacher: fine-tuned BERT, for presets that take layers from it.
        corpus: the texts that the teacher was fine-tuned on, for the same presets.
        teacher_ids: the teacher's id of each of the student's tokens; None if the vocabularies
            are equal.
        seed: seed of sampling from the corpus. Weights use `keras.utils.set_random_seed`.
        pairs: whether an input is two texts, the second one in segment 1.
    """

    task: Task
    vocabulary: int
    max_length: int
    teacher: BertTeacher | None = None
    corpus: Corpus | None = None
    teacher_ids: Sequence[int] | None = None
    seed: int = 0
    pairs: bool = False

    def head(self) -> keras.layers.Layer:
        """A new head for the task: sentence vector float32 [batch, width] -> logits."""
        return objective_of(self.task).head()


@dataclass(frozen=True)
class Preset:
    """A student architecture that a recipe can name, with its default settings.

    Attributes:
        name: name in recipes, bundles and reports.
        build: builds the untrained Keras model, whose parts are named as `Parts` describes.
        vocabulary: default size of the vocabulary, chosen for the size of the int8 file.
        learning_rate: default peak learning rate, for batches of 128.
        needs_teacher: whether `build` takes layers from a teacher.
        needs_bert: whether that teacher must be a BERT.
        has_blocks: whether it has transformer blocks, which the losses on hidden states and
            attention maps need.

        >>> from kdedge.students.presets import find_preset
        >>> find_preset("micro").vocabulary
        18000
    """

    name: str
    build: Callable[[Request], keras.Model]
    vocabulary: int
    learning_rate: float
    needs_teacher: bool = False
    needs_bert: bool = False
    has_blocks: bool = False

    def check_teacher(self, model_type: str) -> None:
        """Check that layers can be taken from a teacher with this `model_type` in its config.json.

        Raises:
            KdedgeError: they can't.
        """
        if self.needs_bert and model_type != "bert":
            raise KdedgeError(
                f"teacher: {model_type}; {self.name} can be made from a BERT only. Name another "
                "student."
            )


@dataclass(frozen=True)
class Block:
    """A transformer block of a student.

    Attributes:
        attention: its self-attention, a `keras.layers.MultiHeadAttention`.
        last: its last layer.
    """

    attention: Any
    last: Any

    @property
    def input(self) -> Any:
        """Input of the self-attention, symbolic, [batch, length, width]."""
        return keras.tree.flatten(self.attention.input)[0]

    @property
    def output(self) -> Any:
        """Symbolic, [batch, length, width]; length 1 if only the first token is computed."""
        return self.last.output


class Parts:
    """Finds the parts of a student in its Keras model, for every architecture.

    A student is a functional Keras model from `student_inputs()` to logits, with these layers:
    `tokens`, the token embedding; `positions`, if it adds position embeddings; `attention_0` and
    `dense_norm_0`, the self-attention and the last layer of its first transformer block, and so
    on; `sentence`, whose output is the sentence vector.

    Args:
        model: a student, or another functional model, of which only some parts may exist.

        >>> from kdedge import build_student
        >>> from kdedge.tasks import Classification
        >>> task = Classification(label_names=("bad", "good"))
        >>> student = build_student("mini", task=task, vocabulary=9, max_length=8)
        >>> len(Parts(student).blocks)
        2
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._layers = {layer.name: layer for layer in model.layers}

    @property
    def functional(self) -> bool:
        """Whether the model is functional, so that its layers can be found."""
        return bool(getattr(self.model, "outputs", None))

    def layer(self, name: str) -> Any:
        """A layer by its name.

        Raises:
            KdedgeError: there is none, or the model is not functional.
        """
        if not self.functional:
            raise KdedgeError(
                f"student: {self.model.name} is not a functional Keras model, so its layers can't "
                "be used by a loss. Build it with keras.Model(inputs, outputs), or leave the loss "
                "out."
            )
        if name not in self._layers:
            raise KdedgeError(
                f"student: {self.model.name} has no layer {name!r}. It has: "
                f"{', '.join(self._layers)}."
            )
        return self._layers[name]

    @property
    def token_embedding(self) -> Any:
        """The layer that turns token ids into vectors, a `keras.layers.Embedding`.

        Raises:
            KdedgeError: there is none.
        """
        layer = self._layers.get(TOKENS)
        if not isinstance(layer, keras.layers.Embedding):
            raise KdedgeError(
                f"student: {self.model.name} has no keras.layers.Embedding named {TOKENS!r}. It "
                f"has: {', '.join(self._layers)}. Give its token embedding that name."
            )
        return layer

    @property
    def embedded(self) -> Any:
        """The layer that gives the token vectors with positions added.

        Virtual tokens are inserted after it, so that the tokens of the text keep their positions
        with and without a prompt.
        """
        return self._layers.get(POSITIONS, self.token_embedding)

    def embed(self, ids: Any) -> Any:
        """Token vectors with positions: int32 [batch, length] -> float32 [batch, length, width]."""
        x = self.token_embedding(ids)
        return x if self.embedded is self.token_embedding else self.embedded(x)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The transformer blocks in order; empty for a convolutional student."""
        found: list[Block] = []
        while (name := attention_name(len(found))) in self._layers:
            found.append(Block(self._layers[name], self.layer(output_name(len(found)))))
        return tuple(found)

    @property
    def sentence(self) -> Any:
        """The sentence vector, symbolic, [batch, width]."""
        return self.layer(SENTENCE).output

    @property
    def logits(self) -> Any:
        """The logits, symbolic, [batch, width]."""
        return self.model.outputs[0]

    @property
    def mask(self) -> Any:
        """The mask input, symbolic, [batch, length]; None if the model has none."""
        return {tensor.name: tensor for tensor in self.model.inputs}.get("mask")

    def run_from(
        self, layer: Any, value: Any, inputs: Mapping[str, Any], training: bool | None = None
    ) -> Any:
        """Run the model with the output of one layer replaced.

        Args:
            layer: the layer, for instance `token_embedding`.
            value: replaces its output, float32 [batch, length, width].
            inputs: inputs of the model by name. Those that only `layer` reads can be missing.
            training: as in Keras.
        """

        def operation(op: Any) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if op is layer:
                    return value
                if training is not None and "training" in inspect.signature(op.call).parameters:
                    kwargs["training"] = training
                return op(*args, **kwargs)

            return call

        # keras.Model(layer.output, ...), the public way, adds nodes to the layers, after which the
        # original model can't be saved.
        values = [inputs.get(tensor.name, inputs["mask"]) for tensor in self.model.inputs]
        return self.model._run_through_graph(values, operation_fn=operation)
