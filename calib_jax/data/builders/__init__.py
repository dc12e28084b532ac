"""TFDS builders of our own, written as ArrayRecord without TensorFlow."""
