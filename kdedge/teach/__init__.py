"""The teaching stage: fine-tunes a pretrained BERT."""

from kdedge.keras_environment import set_up_keras

set_up_keras()
