"""The teaching stage: fine-tunes a pretrained BERT, or uses a teacher that is ready."""

from kdedge.keras_environment import set_up_keras

set_up_keras()
