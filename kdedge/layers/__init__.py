"""Keras layers of teachers and students; saved models refer to them by name."""

from kdedge.keras_environment import set_up_keras

set_up_keras()
