"""BERT by its formulas, arXiv 1810.04805."""

import math

import numpy as np

Tensors = dict[str, np.ndarray]


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def linear(w: Tensors, x: np.ndarray, name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w: Tensors, x: np.ndarray, name: str) -> np.ndarray:
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return scaled * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]


def bert_in_numpy(w: Tensors, ids: list[int], layers: int, heads: int) -> np.ndarray:
    """Last hidden states of a BERT without padding, from tensors without the prefix `bert.`."""
    n = len(ids)
    words, positions = (w[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position"))
    segment = w["embeddings.token_type_embeddings.weight"][0]
    x = norm(w, words[ids] + positions[:n] + segment, "embeddings")
    for i in range(layers):
        layer = f"encoder.layer.{i}"
        query, key, value = (
            linear(w, x, f"{layer}.attention.self.{part}").reshape(n, heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        weights = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1]))
        weights /= weights.sum(-1, keepdims=True)
        attended = (weights @ value).transpose(1, 0, 2).reshape(n, -1)
        attended = linear(w, attended, f"{layer}.attention.output.dense")
        x = norm(w, x + attended, f"{layer}.attention.output")
        inner = linear(w, x, f"{layer}.intermediate.dense")
        x = norm(w, x + linear(w, gelu(inner), f"{layer}.output.dense"), f"{layer}.output")
    return x
