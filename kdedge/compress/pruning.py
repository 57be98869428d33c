"""Pruning: the smallest weights of each layer become 0 (Zhu, Gupta 2017, arXiv 1710.01878)."""

import tensorflow_model_optimization as tfmot

from kdedge.compress.method import Layer, Round
from kdedge.recipe import Compress

# Number of updates of the masks while sparsity rises; each update sorts all weights.
UPDATES = 20


class Pruning(Round):
    """Sets more and more weights to 0, up to the share `sparsity`.

    Nothing is left to write back: the masks are applied to the variables at the end of each epoch.
    """

    def wrap(self, layer: Layer, settings: Compress, steps: int) -> Layer:
        """See `Round`."""
        # The second half of the training is for the weights that stay. The last update must be a
        # multiple of the frequency; otherwise the sparsity would not be reached.
        frequency = max(1, steps // 2 // UPDATES)
        end = max(1, steps // 2 // frequency) * frequency
        schedule = tfmot.sparsity.keras.PolynomialDecay(
            0.0, settings.sparsity, begin_step=0, end_step=end, frequency=frequency
        )
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule)


ROUNDS = (Pruning(),)
