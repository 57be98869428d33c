"""Students: small Keras classifiers that convert without Flex ops."""

from kdedge.keras_environment import set_up_keras

set_up_keras()
