"""Prune, distil, quantize and export trained classifiers, with a proof of what each step cost."""

import edgecifar.train  # noqa: F401  chooses Keras 2 before TensorFlow is imported
