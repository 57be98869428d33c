"""The contract of a student architecture: its inputs, its parts, and the presets that build it."""

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

# Layers by whose names `Parts` finds them, here and in saved students.
TOKENS, POSITIONS, SEGMENTS, SENTENCE = "tokens", "positions", "segments", "sentence"


def attention_name(block: int) -> str:
    """The name of a transformer block's self-attention."""
    return f"attention_{block}"


def output_name(block: int) -> str:
    """The name of the layer that gives a transformer block's output."""
    return f"dense_norm_{block}"


def student_inputs() -> dict[str, Any]:
    """int32 [batch, length] `ids`, `mask` (1 for tokens, 0 for padding) and `segment_ids`."""
    return {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("ids", "mask", "segment_ids")
    }


@dataclass(frozen=True)
class Request:
    """What a student is built for.

    Attributes:
        task: what its logits are of.
        vocabulary: number of token ids.
        max_length: tokens that it must take.
        teacher: for presets that need one.
        corpus: for presets that need one; the teacher's.
        kept: the teacher's ids of the student's tokens; None for all of them.
        seed: of what is drawn from the corpus. Weights follow `keras.utils.set_random_seed`.
        pairs: whether it judges two texts together, the second one in segment 1.
    """

    task: Task
    vocabulary: int
    max_length: int
    teacher: BertTeacher | None = None
    corpus: Corpus | None = None
    kept: Sequence[int] | None = None
    seed: int = 0
    pairs: bool = False

    def head(self) -> keras.layers.Layer:
        """The task's last layer: sentence float32 [batch, width] -> logits."""
        return objective_of(self.task).head()


@dataclass(frozen=True)
class Preset:
    """A student that a recipe can name.

    Attributes:
        name: of the student, in bundles and reports.
        build: gives a Keras model as `Parts` describes it.
        vocabulary: the most word pieces that have a place in it, unless the recipe says: as many
            as leave room in the megabytes that it is to have as int8.
        learning_rate: the highest, with batches of 128, unless the recipe says.
        needs_teacher: whether it is made of the teacher's own layers.
        has_blocks: whether it has transformer layers, with which a teacher's can be matched.
    """

    name: str
    build: Callable[[Request], keras.Model]
    vocabulary: int
    learning_rate: float
    needs_teacher: bool = False
    has_blocks: bool = False


@dataclass(frozen=True)
class Block:
    """A transformer layer of a student.

    Attributes:
        attention: its self-attention, a `keras.layers.MultiHeadAttention`.
        last: the layer that gives its output.
    """

    attention: Any
    last: Any

    @property
    def input(self) -> Any:
        """What its attention compares with all tokens, symbolic, [batch, length, width]."""
        return keras.tree.flatten(self.attention.input)[0]

    @property
    def output(self) -> Any:
        """Symbolic, [batch, length, width]; of length 1 where only the first token goes on."""
        return self.last.output


class Parts:
    """The parts of a student, whatever its architecture.

    A student is a functional Keras model of `student_inputs()` that gives logits. It has an
    embedding layer named `tokens` and a layer named `sentence` that gives the sentence vector. If
    it adds positions, a layer named `positions` does. Its transformer layers are numbered from 0;
    each has a self-attention `attention_0` and a last layer `dense_norm_0`.

    Any other functional model has those parts that are named so, and its other layers by name.

    Args:
        model: the student.

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
        """Whether its parts can be looked at."""
        return bool(getattr(self.model, "outputs", None))

    def layer(self, name: str) -> Any:
        """A layer by its name.

        Raises:
            KdedgeError: there is none, or the model is not functional.
        """
        if not self.functional:
            raise KdedgeError(
                f"student: {self.model.name} must be a functional model to look inside."
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
                f"student: {self.model.name} has no embedding layer named {TOKENS}. It has: "
                f"{', '.join(self._layers)}."
            )
        return layer

    @property
    def embedded(self) -> Any:
        """The layer behind which the tokens' vectors have their positions.

        Virtual tokens are put there: so the text's tokens keep their positions, and a student can
        do without the virtual ones.
        """
        return self._layers.get(POSITIONS, self.token_embedding)

    def embed(self, ids: Any) -> Any:
        """Vectors with positions, float32 [batch, length, width], of ids int32 [batch, length]."""
        x = self.token_embedding(ids)
        return x if self.embedded is self.token_embedding else self.embedded(x)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The transformer layers, the first one first; none of a convolutional student."""
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
        """Symbolic, [batch, width]."""
        return self.model.outputs[0]

    @property
    def mask(self) -> Any:
        """1 for tokens and 0 for padding, symbolic, [batch, length]; None if it has no such."""
        return {tensor.name: tensor for tensor in self.model.inputs}.get("mask")

    def run_from(
        self, layer: Any, value: Any, inputs: Mapping[str, Any], training: bool | None = None
    ) -> Any:
        """What the model gives when one of its layers gives `value`.

        Args:
            layer: whose output is replaced, for instance `token_embedding`.
            value: in the place of its output, float32 [batch, length, width].
            inputs: the model's, by name. An input that only `layer` reads can be left out, and the
                length of those it does not read can be another.
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

        # The public way, keras.Model(layer.output, ...), adds to the layers' nodes, and the model
        # that they belong to can then no longer be saved.
        values = [inputs.get(tensor.name, inputs["mask"]) for tensor in self.model.inputs]
        return self.model._run_through_graph(values, operation_fn=operation)
