"""Confidence that can be believed: a classifier's logits, divided by one number.

A network that learnt from smoothed labels, mixed images or another network says 75 % where it is
right 94 times in 100. Dividing its logits changes no answer, but makes it as sure as it is right.
Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
"""

from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.wrappers import by_name
from edgecifar.runtime.description import DIVISORS
from edgecifar.train.adopt.adoption import STAGE as ADOPTED
from edgecifar.train.run import Run

if TYPE_CHECKING:
    import tf_keras as keras

_LEAST_IMAGES = 100  # on fewer the best divisor is chance
# All that a dense layer holds in the unit of its logits, the ranges of its quantizers with it.
_OF_LOGITS = (
    "kernel", "bias", "kernel_min", "kernel_max", "pre_activation_min", "pre_activation_max",
)  # fmt: skip
_LINEAR = "Dense linear"
_OF_OUTPUT = ("post_activation_min", "post_activation_max")


def divisor(run: Run) -> float:
    """Return by what the logits of a run's model are to be divided: 1 leaves them as they are.

    It is the number with which the validation images are likeliest. A model from elsewhere keeps
    the probabilities that its user knows, and so does a run with too few validation images.
    """
    if "divisor" in run.info:  # of a model that ships, whose answers to the images don't
        return run.info["divisor"]
    stored = run.predictions("validation")
    return 1.0 if run.info["stage"] == ADOPTED or stored is None else best_divisor(*stored)


def best_divisor(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the number, 0.25 to 4, to divide logits by so that the labels are likeliest.

    `probabilities` float [n, classes], `labels` int [n]. With fewer than 100 images it is 1.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    if len(labels) < _LEAST_IMAGES:
        return 1.0
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-30))
    rows = np.arange(len(labels))

    def unlikelihood(logarithm: float) -> float:
        return -log_softmax(logits / np.exp(logarithm), axis=1)[rows, labels].mean()

    found = minimize_scalar(unlikelihood, bounds=np.log(DIVISORS), method="bounded")
    return round(float(np.exp(found.x)), 3)


def divide_logits(model: "keras.Model", number: float) -> bool:
    """Divide the logits of `model` by `number` in place: weights and, if it has them, ranges.

    Returns whether that was possible: it must end in a dense layer with softmax, or in a linear one
    and a softmax, with or without the toolkit's wrapper.
    """
    last = model.layers[-1]
    before = last.inbound_nodes[0].inbound_layers
    if _does(last) == "Dense softmax":
        dense, scaled = last, _OF_LOGITS
    elif _does(last) == "softmax" and not isinstance(before, list) and _does(before) == _LINEAR:
        dense, scaled = before, (*_OF_LOGITS, *_OF_OUTPUT)
    else:
        return False
    for name, weight in by_name(dense).items():
        if name in scaled:
            weight.assign(weight / number)
    return True


def _does(layer: "keras.layers.Layer") -> str:
    """Return `softmax`, such as `Dense linear`, or only the kind of a layer; wrapped or not."""
    inner = getattr(layer, "layer", layer)
    kind = type(inner).__name__
    if kind == "Softmax" or not hasattr(inner, "activation"):
        return kind.lower()
    wrapped = inner.activation  # by the toolkit, where the layer is
    name = getattr(getattr(wrapped, "activation", wrapped), "__name__", "")
    return name if kind == "Activation" else f"{kind} {name}"
