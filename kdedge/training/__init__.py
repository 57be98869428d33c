"""What all trainings share: stopping and resuming."""

from kdedge.keras_environment import set_up_keras

set_up_keras()
