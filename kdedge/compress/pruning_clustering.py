"""Pruning, then clustering that keeps the zeros."""

from kdedge.compress.clustering import Clustering
from kdedge.compress.pruning import Pruning

ROUNDS = (Pruning(), Clustering(keep_zeros=True))
