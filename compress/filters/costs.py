"""What a model costs as a function of the channels it keeps, without building it."""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.filters.channels import ChannelGraph
from edgecifar.train.macs import calls, places

if TYPE_CHECKING:
    import tf_keras as keras


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates of one image, and parameters, those of batch normalisation included."""

    macs: int
    params: int


@dataclass(frozen=True)
class _Terms:
    """A count that is linear in a layer's input channels, its output channels and their product."""

    fixed: int = 0
    read: int = 0
    made: int = 0
    pair: int = 0

    def at(self, read: int, made: int) -> int:
        return self.fixed + self.read * read + self.made * made + self.pair * read * made


class CostModel:
    """Counts MACs and parameters as `count_macs` and `count_params` would of the smaller model."""

    def __init__(self, model: "keras.Model", graph: ChannelGraph):
        self._layers = [
            (graph.layers[layer.name], *_terms(layer, outputs))
            for layer, outputs in calls(model)
            if layer.weights
        ]

    def __call__(self, kept: np.ndarray) -> Cost:
        """Return the cost of a choice of units, bool [units]."""
        macs = params = 0
        for channels, macs_terms, params_terms in self._layers:
            read = int(np.count_nonzero(kept[channels.inputs]))
            made = int(np.count_nonzero(kept[channels.outputs]))
            macs += macs_terms.at(read, made)
            params += params_terms.at(read, made)
        return Cost(macs, params)


def _terms(layer: "keras.layers.Layer", outputs: list[tuple]) -> tuple[_Terms, _Terms]:
    """Return the terms of the MACs of a layer, of all its calls, and of its parameters."""
    kind = type(layer).__name__
    if kind not in ("Conv2D", "Dense", "DepthwiseConv2D", "SeparableConv2D"):
        return _Terms(), _channelwise(layer, outputs[0][-1])
    positions = places(outputs)
    bias = int(layer.use_bias)
    if kind == "Dense":
        return _Terms(pair=positions), _Terms(pair=1, made=bias)
    window = prod(layer.kernel_size)
    if kind == "DepthwiseConv2D":
        return _Terms(made=window * positions), _Terms(made=window + bias)
    if kind == "SeparableConv2D":
        each, pair = window * layer.depth_multiplier, layer.depth_multiplier
        macs = _Terms(read=each * positions, pair=pair * positions)
        return macs, _Terms(read=each, pair=pair, made=bias)
    if layer.groups > 1:  # never cut
        size = prod(layer.kernel.shape)
        return _Terms(fixed=size * positions), _Terms(fixed=layer.count_params())
    return _Terms(pair=window * positions), _Terms(pair=window, made=bias)


def _channelwise(layer: "keras.layers.Layer", channels: int) -> _Terms:
    """Count the vectors of batch normalisation, or the slopes of PReLU."""
    per_channel = sum(prod(w.shape[:-1]) for w in layer.weights if w.shape[-1] == channels)
    shared = sum(prod(w.shape) for w in layer.weights if w.shape[-1] != channels)
    return _Terms(fixed=shared, made=per_channel)
