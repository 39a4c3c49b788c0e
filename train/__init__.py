"""Datasets, architectures, training and evaluation of image classifiers."""

import os

# tensorflow-model-optimization takes Keras 2 models only; TensorFlow reads this at its import.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow uses oneDNN of its own accord only where the CPU has AVX-512; with AVX2 alone its
# convolutions train nets of this size twice as fast too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
