"""Reads corpora, encodes texts as token ids and augments them. Imports no TensorFlow."""
