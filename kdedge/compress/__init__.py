"""The compression stage: fine-tunes students while making them smaller."""

from kdedge.keras_environment import set_up_keras

set_up_keras()
