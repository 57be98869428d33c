"""The export stage: converts a student, quantizes it, checks each file, writes a bundle."""

from kdedge.keras_environment import set_up_keras

set_up_keras()
