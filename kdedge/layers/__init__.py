"""Keras layers that teachers and students share; saved models name them."""
