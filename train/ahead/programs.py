"""What a fit computes, compiled by TensorFlow to StableHLO, which runs without TensorFlow.

The programs call the functions that `fit` calls. Variables come in and go out as arrays, so that
nothing is kept between two calls.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import tensorflow as tf
import tf_keras as keras

from edgecifar.train.augment import Draw, augment, draw
from edgecifar.train.ema import WeightAverage
from edgecifar.train.normalisation import normalise
from edgecifar.train.pipeline import epoch_numbers, examples
from edgecifar.train.settings import Augmentation, Training

_AT_ONCE = 500  # images that are judged together


@dataclass(frozen=True)
class Program:
    """One computation on a state, a list of arrays.

    It takes `arguments` by their names, then the arrays of the state that `reads` numbers; it
    returns `results` of its own, then new arrays for those that `writes` numbers.
    """

    code: bytes
    arguments: tuple[str, ...]
    reads: tuple[int, ...]
    results: int
    writes: tuple[int, ...]


class GivenRate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is told at each step, so that a program serves any number of epochs."""

    now = 0.0

    def __call__(self, step):
        """Return the rate, whatever the step is."""
        return tf.convert_to_tensor(self.now, tf.float32)

    def get_config(self):
        """Return nothing: there is nothing to set."""
        return {}


@dataclass(frozen=True)
class Compiler:
    """Compiles what concerns a `model` that Keras compiled with `rate`, and its average.

    Images are uint8 [count, *image_size, 3]; `state` are all variables that matter, the model's
    weights first. What else the programs use is added to it.
    """

    model: keras.Model
    rate: GivenRate
    average: WeightAverage | None
    image_size: tuple[int, int]
    classes: int
    state: list[tf.Variable]

    def epoch(self, settings: Training, *, count: int, views: int | None) -> Program:
        """Compile an epoch on `count` images, which returns its mean loss and accuracy.

        It takes labels, int32 [count], their `order`, float32 `rates` of each step, and the
        `moment`, int32 (seed, epoch). With `views` it also takes `answers`: what a teacher says of
        the epoch's view of each image, as log-probabilities, float16 [count, classes].
        """
        size, steps = settings.batch_size, count // settings.batch_size
        width, classes = self.image_size[1], self.classes

        def run(images, labels, order, rates, moment, *answers):
            seed, epoch = moment[0], moment[1]
            numbers = epoch_numbers(count, settings.augment, seed, epoch, width=width, views=views)
            self.model.reset_metrics()
            for step in tf.range(steps):
                self.rate.now = rates[step]
                index = _rows(order, step * size, size)
                batch = Draw(*(tf.gather(table, index) for table in numbers))
                inputs, targets = examples(
                    index,
                    batch,
                    settings.augment,
                    read=partial(tf.gather, images),
                    known=lambda index: tf.one_hot(tf.gather(labels, index), classes),
                )
                if answers:
                    said = tf.cast(tf.gather(answers[0], index), tf.float32)
                    targets = tf.concat([targets, said], axis=1)
                self.model.train_step((inputs, targets))
                if self.average:
                    self.average.update()
            return [metric.result() for metric in self.model.metrics]

        arguments = {
            **self._labelled(count),
            "order": tf.TensorSpec([count], tf.int32),
            "rates": tf.TensorSpec([steps], tf.float32),
            "moment": tf.TensorSpec([2], tf.int32),
        }
        if views:
            arguments["answers"] = tf.TensorSpec([count, classes], tf.float16)
        return compiled(run, arguments, self.state)

    def validation(self, *, count: int) -> Program:
        """Compile validation on `count` images, which returns mean loss and accuracy.

        The average stands in for the weights: what the program writes is to be thrown away.
        """
        size = min(_AT_ONCE, count)

        def judge(images, labels, start, size):
            inputs = normalise(tf.cast(_rows(images, start, size), tf.float32))
            targets = tf.one_hot(_rows(labels, start, size), self.classes)
            self.model.test_step((inputs, targets))

        def run(images, labels):
            if self.average:
                for weight, mean in zip(self.average.weights, self.average.averages, strict=True):
                    weight.assign(mean)
            self.model.reset_metrics()
            for step in tf.range(count // size):
                judge(images, labels, step * size, size)
            if left := count % size:
                judge(images, labels, count - left, left)
            return [metric.result() for metric in self.model.metrics]

        return compiled(run, self._labelled(count), self.state)

    def _labelled(self, count: int) -> dict[str, tf.TensorSpec]:
        return {
            "images": tf.TensorSpec([count, *self.image_size, 3], tf.uint8),
            "labels": tf.TensorSpec([count], tf.int32),
        }


def answers(model: keras.Model, augmentation: Augmentation, *, count: int) -> Program:
    """Compile what `model` says of a view of `count` images: probabilities, [count, classes].

    It takes images and the `moment`, int32 (seed, view); its state are the model's weights.
    """
    size, classes = min(_AT_ONCE, count), model.output_shape[-1]

    def ask(images, numbers, start, size):
        batch = Draw(*(_rows(table, start, size) for table in numbers))
        others = tf.gather(images, batch.other) if augmentation.cutmix else None
        inputs = normalise(augment(_rows(images, start, size), batch, augmentation, others))
        return model(inputs, training=False)

    def run(images, moment):
        numbers = draw(count, augmentation, moment)
        said = tf.TensorArray(tf.float32, count // size, element_shape=[size, classes])
        for step in tf.range(count // size):
            said = said.write(step, ask(images, numbers, step * size, size))
        parts = [tf.reshape(said.stack(), [-1, classes])]
        if left := count % size:
            parts.append(ask(images, numbers, count - left, left))
        return [tf.concat(parts, axis=0)]

    arguments = {
        "images": tf.TensorSpec([count, *model.input_shape[1:]], tf.uint8),
        "moment": tf.TensorSpec([2], tf.int32),
    }
    return compiled(run, arguments, list(model.weights))


def compiled(
    function: Callable, arguments: dict[str, tf.TensorSpec], state: list[tf.Variable]
) -> Program:
    """Compile `function`, which takes tensors like `arguments` and reads and assigns variables.

    Those that are not in `state` are added to it. Raises tf.errors.InvalidArgumentError if XLA
    lacks an operation.
    """
    traced = tf.function(function, jit_compile=True, input_signature=list(arguments.values()))
    concrete = traced.get_concrete_function()
    known = {id(variable.handle) for variable in state}
    state.extend(v for v in concrete.graph.variables if id(v.handle) not in known)
    places = {id(variable.handle): number for number, variable in enumerate(state)}
    reads = tuple(places[id(handle)] for handle in concrete.captured_inputs)
    blanks = (tf.zeros(spec.shape, spec.dtype) for spec in arguments.values())
    stage = traced.experimental_get_compiler_ir(*blanks)
    # An assigned variable is an output that may lie where its parameter does: the first line says
    # `{output}: (parameter, {}, may-alias)` of each.
    pairs = re.findall(r"\{(\d+)\}: \((\d+), \{\}", stage(stage="hlo").partition("\n")[0])
    assigned = [int(parameter) for _, parameter in sorted(pairs, key=lambda pair: int(pair[0]))]
    return Program(
        code=stage(stage="stablehlo_serialized"),
        arguments=tuple(arguments),
        reads=reads,
        results=len(concrete.structured_outputs),
        writes=tuple(reads[parameter - len(arguments)] for parameter in assigned),
    )


def _rows(table, start, size: int):
    """Return `size` rows of a tensor [n, ...] from `start` on."""
    shape = [size, *table.shape[1:]]
    begin = [start, *(0 for _ in shape[1:])]
    return tf.ensure_shape(tf.slice(table, begin, shape), shape)
