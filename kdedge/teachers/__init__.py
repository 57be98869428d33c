"""Teachers: loading them, combining them, and labelling texts with them."""

from kdedge.keras_environment import choose_tensorflow

# Some of its modules need no Keras, so it is not imported here.
choose_tensorflow()
