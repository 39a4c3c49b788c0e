"""How much a filter matters: three measures of what its removal would cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgecifar.compress.filters.channels import ChannelGraph
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.normalisation import normalise
from edgecifar.train.pipeline import images_at_once

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Split

Importance = Literal["taylor", "bn", "l1"]
_IMAGES, _BATCH = 2048, 128  # from which the Taylor measure is taken
_KEPT = 3  # times what evaluating takes: a gradient needs what all layers have put out


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
    return np.nan_to_num(_mean_of_layers(graph, _filter_norms(model, graph)))


def bn_scale(model: "keras.Model", graph: ChannelGraph) -> np.ndarray:
    """Return the size of each unit's batch-norm scales, relative to their layer's mean.

    Units without batch normalisation get their L1 measure. Source: Liu et al., "Learning Efficient
    Convolutional Networks through Network Slimming", 2017.
    """
    scales = [
        (graph.layers[layer.name].outputs, np.abs(layer.gamma.numpy()))
        for layer in model.layers
        if _is_norm(layer) and layer.scale
    ]
    if not scales:
        raise EdgecifarError("the model has no batch-norm scales: use --importance l1 or taylor")
    found = _mean_of_layers(graph, scales)
    return np.where(np.isnan(found), l1(model, graph), found)


def taylor(model: "keras.Model", graph: ChannelGraph, split: "Split") -> np.ndarray:
    """Return the squared first-order change of the loss when a unit's channel is made zero.

    Per batch of training images the change is the sum of weight times gradient over what makes
    the channel: scale and offset where batch normalisation with a scale follows, else filter and
    bias, with the offset of one without a scale. Source: Molchanov et al., "Importance Estimation
    for Neural Network Pruning", 2019.
    """
    import tensorflow as tf
    import tf_keras as keras

    sites = list(_gates(model, graph))
    variables = [variable for _, gates in sites for variable, _ in gates]
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
    size = min(_BATCH, max(1, images_at_once(model) // _KEPT))
    for start in range(0, count, size):
        chosen = slice(start, min(start + size, count))
        images = normalise(split.images[chosen].astype(np.float32))
        changes = iter(gradients(tf.constant(images), tf.constant(split.labels[chosen])))
        batch = np.zeros(graph.units)
        for units, gates in sites:
            for _, value in gates:
                product = (value * next(changes)).numpy()
                np.add.at(batch, units, product.reshape(-1, len(units)).sum(axis=0))
        total += (chosen.stop - start) * batch**2
    return total / count


def _gates(model: "keras.Model", graph: ChannelGraph) -> Iterator[tuple[np.ndarray, list]]:
    """Yield (units, gates with those units on the last axis) where channels are made.

    A gate is a variable, and what would have to be taken from it to make a channel zero. What
    hands a channel on, such as a depthwise convolution with its normalisation, isn't asked too: it
    would count the same change again.
    """
    for name in sorted({name for group in graph.groups for name in group.makers}):
        layer = model.get_layer(name)
        readers = [node.layer for node in layer.outbound_nodes]
        norms = {each.name: each for each in readers if _is_norm(each)}
        units = graph.layers[name].outputs
        if not norms or not all(map(_is_norm, readers)):
            yield units, [(weight, weight) for weight in _kernel_and_bias(layer)]
        elif all(norm.scale for norm in norms.values()):
            for norm in norms.values():
                yield units, [(w, w) for w in (norm.gamma, norm.beta) if w is not None]
        else:
            yield units, [(weight, weight) for weight in _kernel_and_bias(layer)]
            for norm in norms.values():
                if norm.center:
                    yield units, [(norm.beta, _added(norm))]


def _added(norm: "keras.layers.BatchNormalization"):
    """Return what batch normalisation adds to the scaled channels, float32 [channels]."""
    scale = (norm.gamma if norm.scale else 1.0) / (norm.moving_variance + norm.epsilon) ** 0.5
    return norm.beta - norm.moving_mean * scale


def _is_norm(layer: "keras.layers.Layer") -> bool:
    return type(layer).__name__ == "BatchNormalization"


def _kernel_and_bias(layer: "keras.layers.Layer") -> list:
    separable = type(layer).__name__ == "SeparableConv2D"
    kernel = layer.pointwise_kernel if separable else layer.kernel
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
    """Average over layers what each says of its units, relative to the layer's own mean.

    Units of which none says anything get NaN.
    """
    total, count = np.zeros(graph.units), np.zeros(graph.units)
    for units, sizes in values:
        np.add.at(total, units, sizes / max(float(sizes.mean()), 1e-12))
        np.add.at(count, units, 1)
    return np.divide(total, count, out=np.full(graph.units, np.nan), where=count > 0)
