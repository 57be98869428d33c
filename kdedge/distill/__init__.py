"""Distillation: the Distiller and its losses."""

from kdedge.keras_environment import set_up_keras

set_up_keras()
