"""Clustering: few distinct weights per layer (Han, Mao, Dally 2015, arXiv 1510.00149)."""

from tensorflow_model_optimization.python.core.clustering.keras.experimental.cluster import (
    cluster_weights,
)

from kdedge.compress.method import Layer, Round
from kdedge.recipe import Compress


class Clustering(Round):
    """Gives each layer at most `clusters` distinct weights.

    Args:
        keep_zeros: keep weights that are 0.
    """

    def __init__(self, keep_zeros: bool = False) -> None:
        self.keep_zeros = keep_zeros

    def wrap(self, layer: Layer, settings: Compress, steps: int) -> Layer:
        """See `Round`."""
        return cluster_weights(layer, settings.clusters, preserve_sparsity=self.keep_zeros)

    def write_back(self, layer: Layer) -> None:
        """See `Round`."""
        # tfmot's strip_clustering would leave tensors in place of an attention layer's variables.
        if hasattr(layer, "update_clustered_weights_associations"):
            layer.update_clustered_weights_associations()
            for name, variable in layer.original_clusterable_weights.items():
                variable.assign(layer.get_weight_from_layer(name))


ROUNDS = (Clustering(),)
