"""Keras as kdedge needs it, whatever is set for other programs: on TensorFlow, in float32.

Keras reads `KERAS_BACKEND` when it is imported, so each package with modules that import Keras
calls `set_up_keras` in its `__init__`.
"""

import os
import sys

from kdedge.errors import KdedgeError


def choose_tensorflow() -> None:
    """Choose TensorFlow as Keras's backend, before Keras is imported.

    Raises:
        KdedgeError: Keras is imported already, with another backend.
    """
    if keras := sys.modules.get("keras"):
        if (backend := keras.config.backend()) != "tensorflow":
            raise KdedgeError(
                f"Keras is imported already, with the backend {backend!r}; kdedge needs "
                "'tensorflow'. Import kdedge first, or set KERAS_BACKEND=tensorflow."
            )
        return
    os.environ["TF_USE_LEGACY_KERAS"] = "0"
    os.environ["KERAS_BACKEND"] = "tensorflow"


def set_up_keras() -> None:
    """Import Keras on TensorFlow, with the numbers that `keras.json` in a home may have changed.

    Raises:
        KdedgeError: see `choose_tensorflow`.
    """
    choose_tensorflow()
    import keras
    import tf_keras

    for config in (keras.config, tf_keras.backend):
        config.set_floatx("float32")
        config.set_epsilon(1e-7)
        config.set_image_data_format("channels_last")
