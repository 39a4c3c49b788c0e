"""Datasets, architectures, training and evaluation of image classifiers."""

import os

# tensorflow-model-optimization takes Keras 2 models only; TensorFlow reads this at its import.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
