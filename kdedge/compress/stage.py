"""Students made smaller by training on: fewer word pieces, zeros, few distinct values, int8."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tensorflow_model_optimization.python.core.clustering.keras.experimental.cluster import (
    cluster_weights,
)

from kdedge.compress.twin import TokenMeanTwin, twin_of
from kdedge.compress.vocabulary import prune_vocabulary
from kdedge.errors import KdedgeError
from kdedge.progress import Advance, progress
from kdedge.recipe import COMPRESSIONS, Compress
from kdedge.students.trained import Student, measures
from kdedge.text.batches import shuffled_batches
from kdedge.text.encoder import TextEncoder

Logits = npt.NDArray[np.float32]
# Where nearly all weights are. Biases and norms are few, and matter too much to be made coarse.
WRAPPED = (
    tf_keras.layers.Embedding,
    tf_keras.layers.Conv1D,
    tf_keras.layers.Dense,
    tf_keras.layers.MultiHeadAttention,
)
# A layer with fewer weights, such as the logits', saves nothing and costs accuracy.
FEWEST_WEIGHTS = 1000
# Whose outputs, and weights if they are among the above, are rounded to int8.
ROUNDED = (
    *WRAPPED,
    tf_keras.layers.Add,
    tf_keras.layers.GlobalAveragePooling1D,
    tf_keras.layers.LayerNormalization,
    TokenMeanTwin,
)
# Masks are made anew so often while sparsity rises: each time sorts all weights.
PRUNING_UPDATES = 20


def compress(
    student: Student,
    method: str,
    texts: Sequence[str],
    teacher_logits: Logits,
    settings: Compress,
    seed: int,
) -> Student:
    """Make a student smaller, or fit for int8, and fine-tune it on a teacher's soft labels.

    - `vocabulary`: word pieces that are rarer than `min_count` in `texts` go.
    - `pruning`: the smallest weights of each layer become 0, more and more of them up to
      `sparsity` (Zhu, Gupta 2017, arXiv 1710.01878).
    - `clustering`: each layer has at most `clusters` distinct weights (Han, Mao, Dally 2015,
      arXiv 1510.00149).
    - `pruning-clustering`: both, one after the other, `epochs` each; zeros stay zeros.
    - `quantization-aware`: weights and activations are rounded to int8 while training, and the
      weights stay where int8 can hold them (Jacob et al. 2017, arXiv 1712.05877).

    Zeros and few distinct values make the file no smaller but its download, which is compressed.
    Students can be compressed again: `vocabulary` goes first, `quantization-aware` last, and not
    after clustering, whose few values it does not keep.
    Equal seeds give equal students on the same machine.

    Args:
        student: as trained or as compressed before; it is left as it is.
        method: one of these.
        texts: to train on; none of the student's valid and test texts should be among them.
        teacher_logits: float32 [texts, classes].
        settings: of the recipe.
        seed: of the order of the texts and of dropout.

    Returns:
        The student with its valid and test splits evaluated anew, and in its notes' `compression`
        what was done, the accuracy before and after, the layers that were left out, and each
        weight's share of zeros and number of distinct values.

    Raises:
        KdedgeError: unknown method, no texts, logits that don't fit, a layer that tf_keras lacks.
    """
    if method not in COMPRESSIONS:
        raise KdedgeError(f"method: {method!r}. Allowed: {', '.join(COMPRESSIONS)}.")
    if not texts:
        raise KdedgeError("texts: none; a compressed student is fine-tuned on them.")
    shape = (len(texts), student.task.width)
    if teacher_logits.shape != shape or not np.isfinite(teacher_logits).all():
        raise KdedgeError(
            f"teacher_logits: shape {teacher_logits.shape}; finite numbers of shape {shape} "
            "are needed."
        )
    layers = [layer for layer in twin_of(student.model).layers if layer.weights]
    model, encoder = student.model, student.encoder
    if method == "vocabulary":
        pruned = prune_vocabulary(student, texts, settings.min_count)
        model, encoder = pruned.model, pruned.encoder
    data = _Batches(encoder, texts, teacher_logits, settings.batch_size, seed)
    tf_keras.utils.set_random_seed(seed)
    rounds = STEPS[method]
    with progress(
        f"compressing by {method}", len(rounds) * len(data) * settings.epochs, "steps"
    ) as advance:
        for wrap, settle in rounds:
            model = _fine_tune(model, wrap, settle, data, settings, advance)

    smaller = student.with_model(model, encoder)
    done = {
        "method": method,
        "settings": settings.model_dump(),
        "seed": seed,
        "transfer_texts": len(texts),
        "valid_accuracy": [measures(s.task, s.valid)[s.task.metric] for s in (student, smaller)],
        "accuracy": [measures(s.task, s.test)[s.task.metric] for s in (student, smaller)],
        "left_out": [layer.name for layer in layers if not _reaches(method, layer)],
        "weights": {
            weight.path: {
                "zeros": float(np.mean(weight.numpy() == 0)),
                "distinct": len(np.unique(weight.numpy())),
            }
            for weight in model.weights
            if weight.ndim > 1
        },
    }
    before = student.notes.get("compression", [])
    return replace(smaller, notes={**smaller.notes, "compression": [*before, done]})


def soft_label_loss(temperature: float) -> Callable[[Any, Any], Any]:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)) of each example, on logits.

    What `kdedge.objectives.losses.SoftLabelLoss` computes (Hinton, Vinyals, Dean 2015,
    arXiv 1503.02531), for tf_keras: float32 [batch, classes] twice -> float32 [batch].
    """

    def loss(teacher_logits: Any, logits: Any) -> Any:
        teacher = tf.nn.log_softmax(teacher_logits / temperature)
        student = tf.nn.log_softmax(logits / temperature)
        return temperature**2 * tf.reduce_sum(tf.exp(teacher) * (teacher - student), -1)

    return loss


# Wraps a layer for the training of so many steps; puts what was learned into its variables.
_Wrap = Callable[[tf_keras.layers.Layer, Compress, int], tf_keras.layers.Layer]
_Settle = Callable[[tf_keras.layers.Layer], None]


def _fine_tune(
    model: keras.Model,
    wrap: _Wrap,
    settle: _Settle,
    data: "_Batches",
    settings: Compress,
    advance: Advance,
) -> keras.Model:
    twin = twin_of(model)
    # A wrapper hides a layer's variables from it.
    variables = {layer.name: list(layer.weights) for layer in twin.layers}
    steps = len(data) * settings.epochs
    wrapped = tf_keras.models.clone_model(twin, clone_function=lambda x: wrap(x, settings, steps))
    schedule = tf_keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    wrapped.compile(
        tf_keras.optimizers.Adam(schedule, clipnorm=1.0), soft_label_loss(settings.temperature)
    )
    wrapped.fit(
        data,
        epochs=settings.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[tfmot.sparsity.keras.UpdatePruningStep(), _Report(advance)],
    )
    for layer in wrapped.layers:
        settle(layer)
    tuned = keras.models.clone_model(model)
    for layer in tuned.layers:
        # Masks leave zeros of both signs, which would be two values to compress.
        layer.set_weights([variable.numpy() + 0.0 for variable in variables[layer.name]])
    return tuned


class _Batches(tf_keras.utils.Sequence):
    def __init__(
        self, encoder: TextEncoder, texts: Sequence[str], logits: Logits, size: int, seed: int
    ) -> None:
        self.encoder, self.texts, self.logits = encoder, texts, logits
        self.size, self.seed, self.epoch = size, seed, -1
        self.lengths = [len(ids) for ids in encoder.token_ids(texts)]
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self.batches = shuffled_batches(self.lengths, self.size, [self.seed, self.epoch])

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> tuple[Any, Logits]:
        rows = self.batches[i]
        return self.encoder.encode([self.texts[j] for j in rows]).inputs, self.logits[rows]


class _Report(tf_keras.callbacks.Callback):
    def __init__(self, advance: Advance) -> None:
        super().__init__()
        self.advance = advance

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.advance(1, f"loss {(logs or {}).get('loss', float('nan')):.3f}")


def _reaches(method: str, layer: tf_keras.layers.Layer) -> bool:
    if method == "quantization-aware":
        return _is_rounded(layer)
    return method == "vocabulary" or _is_wrapped(layer)


def _is_wrapped(layer: tf_keras.layers.Layer) -> bool:
    return isinstance(layer, WRAPPED) and layer.count_params() >= FEWEST_WEIGHTS


def _is_rounded(layer: tf_keras.layers.Layer) -> bool:
    return isinstance(layer, ROUNDED)


def _prune(layer: tf_keras.layers.Layer, settings: Compress, steps: int) -> tf_keras.layers.Layer:
    if not _is_wrapped(layer):
        return layer
    # Half of the training is left for the weights that stay. The last update must be a multiple
    # of the frequency, or the sparsity asked for is not reached.
    frequency = max(1, steps // 2 // PRUNING_UPDATES)
    end = max(1, steps // 2 // frequency) * frequency
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        0.0, settings.sparsity, begin_step=0, end_step=end, frequency=frequency
    )
    return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule)


def _cluster(preserve_sparsity: bool) -> _Wrap:
    def wrap(layer: Any, settings: Compress, steps: int) -> tf_keras.layers.Layer:
        if not _is_wrapped(layer):
            return layer
        return cluster_weights(layer, settings.clusters, preserve_sparsity=preserve_sparsity)

    return wrap


def _settle_clusters(layer: tf_keras.layers.Layer) -> None:
    # strip_clustering leaves tensors in the place of an attention layer's variables.
    if hasattr(layer, "update_clustered_weights_associations"):
        layer.update_clustered_weights_associations()
        for name, variable in layer.original_clusterable_weights.items():
            variable.assign(layer.get_weight_from_layer(name))


class _Kernel(tfmot.quantization.keras.quantizers.LastValueQuantizer):
    """A scale for each index of the last axis; tfmot's own takes no kernels of three axes."""

    def __call__(self, inputs: Any, training: bool, weights: Any, **kwargs: Any) -> Any:
        rows = tf.reshape(inputs, (-1, inputs.shape[-1]))
        return tf.reshape(super().__call__(rows, training, weights, **kwargs), inputs.shape)


class _Int8(tfmot.quantization.keras.QuantizeConfig):
    """As LiteRT does: kernels by channel, embeddings as a whole, both symmetric; outputs are not.

    What happens inside attention and layer normalization stays in float while training: tfmot
    rounds a layer's weights and output only.
    """

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        return [
            (
                getattr(owner, name),
                _Kernel(8, per_axis=name == "kernel", symmetric=True, narrow_range=True),
            )
            for owner, name in self._weights(layer)
        ]

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        for (owner, name), weight in zip(self._weights(layer), quantize_weights, strict=True):
            setattr(owner, name, weight)

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        if isinstance(layer, tf_keras.layers.MultiHeadAttention):
            return []  # its shape is not known before it is called, and a rounded sum follows
        # By each batch's range. tfmot's moving average begins at 6 and needs thousands of steps.
        quantizers = tfmot.quantization.keras.quantizers
        return [quantizers.LastValueQuantizer(8, False, symmetric=False, narrow_range=False)]

    def get_config(self) -> dict[str, Any]:
        return {}

    def _weights(self, layer: Any) -> list[tuple[Any, str]]:
        if isinstance(layer, tf_keras.layers.Embedding):
            return [(layer, "embeddings")]
        if isinstance(layer, tf_keras.layers.Dense | tf_keras.layers.Conv1D):
            return [(layer, "kernel")]
        if isinstance(layer, tf_keras.layers.MultiHeadAttention):
            parts = ("_query_dense", "_key_dense", "_value_dense", "_output_dense")
            return [(getattr(layer, part), "kernel") for part in parts]
        return []


def _round(layer: tf_keras.layers.Layer, settings: Compress, steps: int) -> tf_keras.layers.Layer:
    if not _is_rounded(layer):
        return layer
    return tfmot.quantization.keras.QuantizeWrapperV2(layer, _Int8())


def _settle_int8(layer: tf_keras.layers.Layer) -> None:
    if isinstance(layer, tfmot.quantization.keras.QuantizeWrapperV2):
        for variable, quantizer, ranges in layer._weight_vars:
            variable.assign(quantizer(variable, True, weights=ranges))


def _as_it_is(layer: tf_keras.layers.Layer, *_: Any) -> tf_keras.layers.Layer:
    return layer


def _settled(layer: tf_keras.layers.Layer) -> None:
    """Variables hold what was learned already; masks are applied at the end of an epoch."""


STEPS: dict[str, list[tuple[_Wrap, _Settle]]] = {
    "vocabulary": [(_as_it_is, _settled)],
    "pruning": [(_prune, _settled)],
    "clustering": [(_cluster(preserve_sparsity=False), _settle_clusters)],
    "pruning-clustering": [
        (_prune, _settled),
        (_cluster(preserve_sparsity=True), _settle_clusters),
    ],
    "quantization-aware": [(_round, _settle_int8)],
}
