"""Which channels of a Keras model stand and fall together.

Every channel of every tensor is traced to the filters it comes from. An addition ties the channels
of its inputs to each other, a concatenation lines them up, a depthwise convolution hands them on
and Flatten repeats them for each pixel. What is tied becomes one unit, kept or removed as a whole.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.filters.prunable import require_prunable
from edgecifar.compress.preflight import require_known
from edgecifar.train.graph import nodes_of

if TYPE_CHECKING:
    import tf_keras as keras

FIXED = 0  # the unit of all channels that must stay, such as pixels and classes


@dataclass(frozen=True)
class LayerChannels:
    """The unit behind each input and output channel of a layer, int64 [channels] each.

    A layer of several inputs, which has no weights to cut, has the units of its first.
    """

    inputs: np.ndarray
    outputs: np.ndarray


@dataclass(frozen=True)
class Group:
    """Units that the same layers make, so that they differ in nothing but their weights."""

    units: np.ndarray  # int64 [n], ascending
    makers: tuple[str, ...]  # names of the layers that have a filter for each unit


@dataclass(frozen=True)
class ChannelGraph:
    """The units of a model: what each layer reads and makes of them, and which may go."""

    layers: dict[str, LayerChannels]
    groups: tuple[Group, ...]
    units: int  # the fixed one, number 0, included

    def all_kept(self) -> np.ndarray:
        """Return the choice of units, bool [units], that removes nothing."""
        return np.ones(self.units, dtype=bool)


def trace(model: "keras.Model", *, keep: Iterable[str] = ()) -> ChannelGraph:
    """Trace the channels of a functional model; the layers named in `keep` lose no filter.

    Raises EdgecifarError for a model that can't be pruned (see `require_prunable`) and for names
    that the model doesn't have.
    """
    require_prunable(model)
    tracer = _Tracer()
    for node in nodes_of(model):
        tracer.visit(node)
    for tensor in model.outputs:
        tracer.fix(tracer.tensors[str(id(tensor))].atoms)
    require_known(keep, tracer.layers)
    for name in keep:
        tracer.fix(tracer.layers[name][1])
    return tracer.graph()


@dataclass(frozen=True)
class _Tensor:
    """Channels on their way through the model."""

    atoms: np.ndarray  # int64 [channels]: filters, before it is known which are tied
    silent: bool  # whether the channel of a zeroed filter is zero here


class _Tracer:
    """Walks a model from input to output and ties filters together.

    Removing a filter must equal zeroing it. Where its channel would not be zero (behind a sigmoid,
    say) a layer that sums over channels would miss it: such filters stay.
    """

    def __init__(self):
        self.tensors: dict[str, _Tensor] = {}
        self.layers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.makers: dict[str, np.ndarray] = {}
        self._parents = [FIXED]

    def visit(self, node) -> None:
        """Trace one call of a layer."""
        layer = node.layer
        inputs = [self.tensors[key] for key in node.flat_input_ids]
        output = _rule_for(layer)(self, node, inputs)
        (key,) = node.flat_output_ids
        self.tensors[key] = output
        read = inputs[0].atoms if inputs else output.atoms
        first = self.layers.setdefault(layer.name, (read, output.atoms))
        if layer.weights or type(layer).__name__ == "Reshape":  # calls share what will be cut
            self.tie(read, first[0])
            self.tie(output.atoms, first[1])

    def new(self, count: int) -> np.ndarray:
        """Return atoms of new filters."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def make(self, layer, count: int) -> np.ndarray:
        """Return the filters of a layer, the same at each call."""
        if layer.name not in self.makers:
            self.makers[layer.name] = self.new(count)
        return self.makers[layer.name]

    def tie(self, first: np.ndarray, second: np.ndarray) -> None:
        """Let channels at the same position share their fate."""
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            self._parents[high] = low  # the lowest, so that what is fixed stays number 0

    def fix(self, atoms: np.ndarray) -> None:
        """Let these filters stay."""
        self.tie(atoms, np.full(len(atoms), FIXED))

    def hear(self, tensor: _Tensor) -> None:
        """Note that a sum over channels reads `tensor`: what isn't silent there must stay."""
        if not tensor.silent:
            self.fix(tensor.atoms)

    def graph(self) -> ChannelGraph:
        """Give each unit its number and group the units by their makers."""
        roots = np.array([self._root(atom) for atom in range(len(self._parents))])
        _, unit_of = np.unique(roots, return_inverse=True)
        makers: dict[int, set[str]] = defaultdict(set)
        for name, atoms in self.makers.items():
            for unit in unit_of[atoms].tolist():
                makers[unit].add(name)
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for unit in sorted(makers.keys() - {FIXED}):
            groups[tuple(sorted(makers[unit]))].append(unit)
        return ChannelGraph(
            {
                name: LayerChannels(unit_of[read], unit_of[made])
                for name, (read, made) in self.layers.items()
            },
            tuple(Group(np.array(units), names) for names, units in groups.items()),
            len(np.unique(roots)),
        )

    def _root(self, atom: int) -> int:
        while self._parents[atom] != atom:
            self._parents[atom] = self._parents[self._parents[atom]]
            atom = self._parents[atom]
        return atom


def _rule_for(layer):
    from tf_keras import layers

    rules = (
        (layers.InputLayer, _input),
        (layers.DepthwiseConv2D, _depthwise),
        (layers.SeparableConv2D | layers.Conv2D | layers.Dense, _filters),
        (layers.BatchNormalization, _normalise),
        (layers.Multiply, _multiply),
        (layers.Add | layers.Subtract | layers.Average | layers.Maximum | layers.Minimum, _merge),
        (layers.Concatenate, _concatenate),
        (layers.Flatten, _flatten),
        (layers.Reshape, _reshape),
        (layers.Softmax, _mix),
        (layers.Layer, _each_channel),  # all others that `require_prunable` lets through
    )
    return next(rule for kind, rule in rules if isinstance(layer, kind))


def _channels(node) -> int:
    shape = node.output_shapes
    return (shape[0] if isinstance(shape, list) else shape)[-1]


def _input(tracer: _Tracer, node, inputs) -> _Tensor:
    return _Tensor(np.full(_channels(node), FIXED), silent=True)


def _filters(tracer: _Tracer, node, inputs) -> _Tensor:
    (tensor,) = inputs
    tracer.hear(tensor)
    made = tracer.make(node.layer, _channels(node))
    if getattr(node.layer, "groups", 1) > 1:  # its kernel can't lose single channels
        tracer.fix(tensor.atoms)
        tracer.fix(made)
    return _activated(tracer, node.layer, made)


def _depthwise(tracer: _Tracer, node, inputs) -> _Tensor:
    (tensor,) = inputs
    # Zeroing reaches its own kernel too, hence what it makes of a zeroed filter is zero.
    return _activated(tracer, node.layer, np.repeat(tensor.atoms, node.layer.depth_multiplier))


def _activated(tracer: _Tracer, layer, atoms: np.ndarray) -> _Tensor:
    """Apply the activation that a layer with weights has built in."""
    import tensorflow as tf

    if _mixes(layer):
        tracer.fix(atoms)
    return _Tensor(atoms, bool(np.all(layer.activation(tf.zeros((1, 2))) == 0)))


def _mixes(layer) -> bool:
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    return activation in ("softmax", "log_softmax")


def _normalise(tracer: _Tracer, node, inputs) -> _Tensor:
    (tensor,) = inputs
    # Zeroing a filter zeroes its scale, offset and mean here; without a scale a channel that isn't
    # zero would get through.
    return _Tensor(tensor.atoms, silent=tensor.silent or node.layer.scale)


def _merge(tracer: _Tracer, node, inputs) -> _Tensor:
    widest = max(inputs, key=lambda tensor: len(tensor.atoms))
    for tensor in inputs:
        tracer.hear(tensor)
        if len(tensor.atoms) == len(widest.atoms):
            tracer.tie(tensor.atoms, widest.atoms)
        else:  # one channel for all: no channel of the sum is zero any more
            tracer.fix(tensor.atoms)
            tracer.fix(widest.atoms)
    return _Tensor(widest.atoms, silent=True)


def _multiply(tracer: _Tracer, node, inputs) -> _Tensor:
    widest = max(inputs, key=lambda tensor: len(tensor.atoms))
    whole = [tensor for tensor in inputs if len(tensor.atoms) == len(widest.atoms)]
    for tensor in inputs:
        if len(tensor.atoms) == len(widest.atoms):
            tracer.tie(tensor.atoms, widest.atoms)
        else:
            tracer.fix(tensor.atoms)
    return _Tensor(widest.atoms, silent=any(tensor.silent for tensor in whole))


def _concatenate(tracer: _Tracer, node, inputs) -> _Tensor:
    for tensor in inputs:
        tracer.hear(tensor)
    rank = len(node.output_shapes)
    if node.layer.axis % rank == rank - 1:
        return _Tensor(np.concatenate([tensor.atoms for tensor in inputs]), silent=True)
    for tensor in inputs:
        tracer.tie(tensor.atoms, inputs[0].atoms)
    return inputs[0]


def _flatten(tracer: _Tracer, node, inputs) -> _Tensor:
    (tensor,) = inputs
    repeats = _channels(node) // len(tensor.atoms)
    return _Tensor(np.tile(tensor.atoms, repeats), tensor.silent)


def _reshape(tracer: _Tracer, node, inputs) -> _Tensor:
    (tensor,) = inputs
    if _channels(node) == len(tensor.atoms):
        return tensor
    if len(node.output_shapes) == 2:
        return _flatten(tracer, node, inputs)
    return _mix(tracer, node, inputs)


def _mix(tracer: _Tracer, node, inputs) -> _Tensor:
    (tensor,) = inputs
    tracer.fix(tensor.atoms)
    return _Tensor(np.full(_channels(node), FIXED), silent=True)


def _each_channel(tracer: _Tracer, node, inputs) -> _Tensor:
    """Take a layer without weights that treats channels alike; ask it what it makes of zeros."""
    import tensorflow as tf

    (tensor,) = inputs
    if _mixes(node.layer):
        tracer.fix(tensor.atoms)
    zeros = node.layer(tf.zeros((1, *node.input_shapes[1:])))
    return _Tensor(tensor.atoms, tensor.silent and bool(np.all(zeros == 0)))
