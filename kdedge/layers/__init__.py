"""Keras layers that teachers and students share; saved models name them."""

from kdedge.keras_environment import set_up_keras

set_up_keras()
