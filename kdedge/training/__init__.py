"""Code that all trainings share: checkpoints, and the mean of the weights over epochs."""

from kdedge.keras_environment import set_up_keras

set_up_keras()
