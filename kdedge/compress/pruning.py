"""Pruning: the smallest weights of each layer become 0 (Zhu, Gupta 2017, arXiv 1710.01878)."""

import tensorflow_model_optimization as tfmot

from kdedge.compress.method import Layer, Round
from kdedge.recipe import Compress

# Masks are made anew so often while sparsity rises: each time sorts all weights.
UPDATES = 20


class Pruning(Round):
    """More and more zeros, up to `sparsity`.

    The variables hold what was learned already: masks are applied at the end of an epoch.
    """

    def wrap(self, layer: Layer, settings: Compress, steps: int) -> Layer:
        """See `Round`."""
        # Half of the training is left for the weights that stay. The last update must be a multiple
        # of the frequency, or the sparsity asked for is not reached.
        frequency = max(1, steps // 2 // UPDATES)
        end = max(1, steps // 2 // frequency) * frequency
        schedule = tfmot.sparsity.keras.PolynomialDecay(
            0.0, settings.sparsity, begin_step=0, end_step=end, frequency=frequency
        )
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule)


ROUNDS = (Pruning(),)
