"""Text in: corpora, the text encoder, augmentation. Imports no TensorFlow."""
