"""How much a filter matters: three measures of what its removal would cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgecifar.compress.filters.channels import ChannelGraph
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.normalisation import normalise

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Split

Importance = Literal["taylor", "bn", "l1"]
_WITH_KERNEL = ("Conv2D", "Dense", "DepthwiseConv2D", "SeparableConv2D")
_IMAGES, _BATCH = 2048, 128  # from which the Taylor measure is taken


@dataclass(frozen=True)
class Scores:
    """The importance of each unit, float [units].

    `absolute` ones are changes of the loss and can be weighed against what a removal saves;
    the others only rank the units of one layer.
    """

    values: np.ndarray
    absolute: bool


def importance(
    kind: Importance, model: "keras.Model", graph: ChannelGraph, split: "Split"
) -> Scores:
    """Return the importance of each unit; `split` are training images.

    Raises EdgecifarError if `bn` is asked of a model without scales.
    """
    if kind == "taylor":
        return Scores(taylor(model, graph, split), absolute=True)
    measure = bn_scale if kind == "bn" else l1
    return Scores(measure(model, graph), absolute=False)


def l1(model: "keras.Model", graph: ChannelGraph) -> np.ndarray:
    """Return the mean absolute weight of the filters of each unit, relative to their layer's mean.

    Source: Li et al., "Pruning Filters for Efficient ConvNets", 2017.
    """
    return _mean_of_layers(graph, _filter_norms(model, graph))


def bn_scale(model: "keras.Model", graph: ChannelGraph) -> np.ndarray:
    """Return the size of each unit's batch-norm scales, relative to their layer's mean.

    Units without batch normalisation get their L1 measure. Source: Liu et al., "Learning Efficient
    Convolutional Networks through Network Slimming", 2017.
    """
    scales = [
        (graph.layers[layer.name].outputs, np.abs(layer.gamma.numpy()))
        for layer in model.layers
        if type(layer).__name__ == "BatchNormalization" and layer.scale
    ]
    if not scales:
        raise EdgecifarError("the model has no batch-norm scales: use --importance l1 or taylor")
    found = _mean_of_layers(graph, scales)
    return np.where(found > 0, found, l1(model, graph))


def taylor(model: "keras.Model", graph: ChannelGraph, split: "Split") -> np.ndarray:
    """Return the squared first-order change of the loss when a unit's channel is made zero.

    Per batch of training images the change is the sum of weight times gradient over what makes
    the channel: scale and offset where batch normalisation follows, else filter and bias. Source:
    Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019.
    """
    import tensorflow as tf
    import tf_keras as keras

    sites = list(_gates(model, graph))
    variables = [variable for _, weights in sites for variable in weights]
    loss = keras.losses.SparseCategoricalCrossentropy()

    @tf.function
    def gradients(images, labels):
        with tf.GradientTape() as tape:
            tape.watch(variables)
            # As at inference: with a batch's own statistics a filter before batch normalisation
            # could shrink without any change.
            value = loss(labels, model(images, training=False))
        return tape.gradient(value, variables)

    total = np.zeros(graph.units)
    count = min(_IMAGES, len(split.labels))
    for start in range(0, count, _BATCH):
        chosen = slice(start, min(start + _BATCH, count))
        images = normalise(split.images[chosen].astype(np.float32))
        changes = iter(gradients(tf.constant(images), tf.constant(split.labels[chosen])))
        batch = np.zeros(graph.units)
        for units, weights in sites:
            for weight in weights:
                product = (weight * next(changes)).numpy()
                np.add.at(batch, units, product.reshape(-1, len(units)).sum(axis=0))
        total += (chosen.stop - start) * batch**2
    return total / count


def _gates(model: "keras.Model", graph: ChannelGraph) -> Iterator[tuple[np.ndarray, list]]:
    """Yield (units, weights with those units on the last axis) where channels are made."""
    for layer in model.layers:
        kind = type(layer).__name__
        units = graph.layers[layer.name].outputs if layer.weights else None
        if kind == "BatchNormalization":
            yield units, [w for w in (layer.gamma, layer.beta) if w is not None]
        elif kind in _WITH_KERNEL and not all(map(_is_normalised, layer.outbound_nodes)):
            yield units, _kernel_and_bias(layer)


def _is_normalised(node) -> bool:
    return type(node.layer).__name__ == "BatchNormalization"


def _kernel_and_bias(layer: "keras.layers.Layer") -> list:
    name = {"DepthwiseConv2D": "depthwise_kernel", "SeparableConv2D": "pointwise_kernel"}
    kernel = getattr(layer, name.get(type(layer).__name__, "kernel"))
    return [kernel, layer.bias] if layer.use_bias else [kernel]


def _filter_norms(
    model: "keras.Model", graph: ChannelGraph
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    makers = {name for group in graph.groups for name in group.makers}
    for name in sorted(makers):
        kernel = _kernel_and_bias(model.get_layer(name))[0].numpy()
        units = graph.layers[name].outputs
        yield units, np.abs(kernel).reshape(-1, len(units)).mean(axis=0)


def _mean_of_layers(graph: ChannelGraph, values) -> np.ndarray:
    """Average over layers what each says of its units, relative to the layer's own mean."""
    total, count = np.zeros(graph.units), np.zeros(graph.units)
    for units, sizes in values:
        np.add.at(total, units, sizes / max(float(sizes.mean()), 1e-12))
        np.add.at(count, units, 1)
    return total / np.maximum(count, 1)
