"""Rebuilds a student in tf_keras, because tensorflow-model-optimization takes no Keras 3 models."""

import inspect
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from kdedge.errors import KdedgeError
from kdedge.layers.pooling import Compared, TokenMean
from kdedge.layers.transformer import Attention, FirstToken, PositionEmbedding, gelu_tanh


def twin_of(model: keras.Model) -> tf_keras.Model:
    """Build the same model of tf_keras layers, with the same weights and layer names.

    Args:
        model: a functional model of Keras's and kdedge's layers.

    Raises:
        KdedgeError: the model is not functional, or tf_keras has no such layer or another one.
    """
    config = model.get_config()
    if "input_layers" not in config:
        raise KdedgeError(f"{model.name}: not a functional model; only those can be compressed.")
    layers = {layer.name: layer for layer in model.layers}
    outputs: dict[str, Any] = {}

    def tensors(saved: Any) -> Any:
        """The arguments of a call, with the twin's tensors in place of the model's."""
        if isinstance(saved, dict):
            if saved.get("class_name") == "__keras_tensor__":
                return outputs[saved["config"]["keras_history"][0]]
            return {name: tensors(value) for name, value in saved.items()}
        return [tensors(value) for value in saved] if isinstance(saved, list | tuple) else saved

    for saved in config["layers"]:
        name = saved["name"]
        if name not in layers or len(saved["inbound_nodes"]) > 1:
            raise KdedgeError(
                f"{model.name}: {name} is used twice or is no layer; such a model has no twin in "
                "tf_keras and can't be compressed."
            )
        if isinstance(layers[name], keras.layers.InputLayer):
            tensor = layers[name].output
            outputs[name] = tf_keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
            continue
        layer, (call,) = _twin_layer(layers[name]), saved["inbound_nodes"]
        names = list(inspect.signature(layer.call).parameters)
        first, *others = tensors(call["args"])
        # Wrappers pass on one positional argument only, but all keyword arguments.
        named = dict(zip(names[1:], others, strict=False)) | tensors(call["kwargs"])
        outputs[name] = layer(first, **{k: v for k, v in named.items() if v is not None})

    twin = tf_keras.Model(
        {tensor.name: outputs[tensor.name] for tensor in model.inputs},
        outputs[model.output._keras_history.operation.name],
        name=model.name,
    )
    for layer in twin.layers:
        try:
            layer.set_weights(layers[layer.name].get_weights())
        except ValueError:
            raise _no_twin(layers[layer.name]) from None
    # A layer can have a namesake that computes something else, such as LeakyReLU.
    ones = {tensor.name: tf.ones([n or 2 for n in tensor.shape]) for tensor in model.inputs}
    if not np.allclose(model(ones), twin(ones), rtol=1e-3, atol=1e-4, equal_nan=True):
        raise KdedgeError(
            f"{model.name}: its twin in tf_keras gives other outputs, because one of its layers or "
            "activations is another one there (LeakyReLU, hard_sigmoid), so this student can't be "
            "compressed."
        )
    return twin


class _PositionEmbedding(tf_keras.layers.Layer):
    def __init__(self, max_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_length = max_length

    def build(self, input_shape: Any) -> None:
        self.table = self.add_weight("table", (self.max_length, input_shape[-1]))

    def call(self, x: Any) -> Any:
        return x + self.table[: tf.shape(x)[1]]


class _FirstToken(tf_keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return tf.expand_dims(x[:, 0], 1)


class TokenMeanTwin(tf_keras.layers.Layer):
    """`TokenMean` of kdedge for tf_keras."""

    def call(self, x: Any, real: Any) -> Any:
        """float32 [batch, length, width], int32 [batch, length] -> float32 [batch, width]."""
        count = tf.reduce_sum(real, axis=1, keepdims=True)
        return tf.reduce_sum(x, axis=1) / tf.cast(count, x.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output, which tensorflow-model-optimization needs."""
        return tf.TensorShape((input_shape[0], input_shape[2]))


class _Compared(tf_keras.layers.Layer):
    def call(self, both: Any) -> Any:
        u, v = both[:, 0], both[:, 1]
        return tf.concat([u, v, tf.abs(u - v), u * v], axis=-1)


TWINS = {
    Attention: tf_keras.layers.MultiHeadAttention,
    PositionEmbedding: _PositionEmbedding,
    FirstToken: _FirstToken,
    TokenMean: TokenMeanTwin,
    Compared: _Compared,
}


def _gelu_tanh(x: Any) -> Any:
    return tf.nn.gelu(x, approximate=True)


def _twin_layer(layer: keras.Layer) -> tf_keras.layers.Layer:
    kind: Any = TWINS.get(type(layer))
    if type(layer).__module__.startswith("keras."):
        kind = getattr(tf_keras.layers, type(layer).__name__, None)
    try:
        config = {
            key: value
            for key, value in layer.get_config().items()
            if key in inspect.signature(kind).parameters
            # Weights are copied, so initializers do not matter.
            and not key.endswith(("_initializer", "_regularizer", "_constraint"))
        }
        if "activation" in config:
            is_gelu_tanh = layer.activation is gelu_tanh
            config["activation"] = _gelu_tanh if is_gelu_tanh else layer.activation.__name__
        return kind(**config, name=layer.name)
    except (TypeError, ValueError):
        raise _no_twin(layer) from None


def _no_twin(layer: keras.Layer) -> KdedgeError:
    return KdedgeError(
        f"{layer.name}: tf_keras has no twin of this {type(layer).__name__}, so a student with it "
        "can't be compressed."
    )
