"""Fine-tuning with quantization in the loop, so that the weights learn to live with int8."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.masks import hold, require_held, zeros_of
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.normalisation import RANGE, normalise
from edgecifar.train.recipe import Training
from edgecifar.train.run import Run, start_run

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.compress.distil import Teacher
    from edgecifar.train.data import Dataset

_RANGE_DECAY = 0.999  # of the moving averages in which the toolkit keeps activation ranges
_CALIBRATION_BATCHES, _CALIBRATION_BATCH = 8, 128


@dataclasses.dataclass(frozen=True)
class Quantization:
    """What fine-tuning takes from its own recipe; all else stays as the float run had it."""

    epochs: int = 8
    learning_rate: float = 0.01  # the peak, falling as a cosine from the first step
    ema: float = 0.99

    def __post_init__(self) -> None:
        self.settings(Training())

    def settings(self, parent: Training) -> Training:
        """Return the settings for fine-tuning a model that was trained with those of `parent`."""
        return parent.fine_tuning(
            epochs=self.epochs, learning_rate=self.learning_rate, ema=self.ema
        )


def quantize(
    parent: Run,
    dataset: "Dataset",
    recipe: Quantization,
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    teacher: "Teacher | None" = None,
) -> Run:
    """Fine-tune the model of `parent` with simulated int8 into the run folder `out`.

    Resumes if it was begun. The Keras model that comes out computes what the int8 file will. With
    a `teacher` it learns from that as in distillation.
    """
    from edgecifar.compress.distil import taught_feed
    from edgecifar.train.loop import apply_precision, fit_to, require_batches
    from edgecifar.train.pipeline import image_feed
    from edgecifar.train.recipe import from_mapping
    from edgecifar.train.session import finish

    settings = recipe.settings(from_mapping(Training, parent.info["recipe"]))
    require_batches(dataset, settings)
    if teacher:
        settings = dataclasses.replace(settings, label_smoothing=0.0)
        teacher.require_fit(dataset, settings)
    model = parent.load_model()
    require_quantizable(model)
    identity = {
        "stage": "quantize",
        "architecture": parent.info["architecture"],
        "recipe": dataclasses.asdict(settings),
        "seed": seed,
        "parent": parent.name,
        "teacher": teacher.identity() if teacher else None,
    }
    run = start_run(out, identity, dataset, force=force)
    apply_precision(settings.precision)
    counts = {key: parent.info[key] for key in ("parameters", "macs")}
    prepared = prepare(model, dataset.train.images[: _CALIBRATION_BATCHES * _CALIBRATION_BATCH])
    held = hold(prepared, zeros_of(model))
    if teacher:
        feed = taught_feed(teacher, dataset, settings, run, seed=seed, parent=parent)
    else:
        feed = image_feed(dataset, settings, seed=seed)
    result = fit_to(feed, prepared, settings, run.path, seed=seed)
    require_held(held)
    finish(run, prepared, dataset, result)
    run.update(**counts)  # of the network itself, without the bookkeeping of its quantizers
    return run


def prepare(model: "keras.Model", images: np.ndarray) -> "keras.Model":
    """Return `model` with simulated int8 weights and activations, its ranges calibrated.

    `images` are uint8 [n, height, width, 3] from training.
    """
    import tensorflow_model_optimization as tfmot

    prepared = tfmot.quantization.keras.quantize_model(model)
    _fix_input_range(prepared)
    _calibrate(prepared, normalise(images.astype(np.float32)))
    return prepared


def require_quantizable(model: "keras.Model") -> None:
    """Raise EdgecifarError, naming the layer and the rewrite, if the toolkit can't take `model`."""
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    if not isinstance(model, keras.Sequential) and not model._is_graph_network:
        raise EdgecifarError("a subclassed model can't be quantized: build it functionally")
    supports = tfmot.quantization.keras.default_8bit.Default8BitQuantizeScheme()
    registry = supports.get_quantize_registry()
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            reason = "is a model inside the model: inline its layers"
        elif isinstance(layer, keras.layers.Rescaling):
            reason = "can't be quantized: normalise as (pixel - 120) / 64 outside the model"
        elif isinstance(layer, keras.layers.InputLayer | keras.layers.BatchNormalization):
            continue
        elif not registry.supports(layer):
            reason = f"({type(layer).__name__}) has no int8 form: replace it"
        else:
            continue
        raise EdgecifarError(f"layer {layer.name} {reason}")


def _fix_input_range(model: "keras.Model") -> None:
    """Give the input exactly the range of all pixels, so that int8 means pixel - 128.

    The quantizer widens its range when it sees more, and never does: no image exceeds it.
    """
    low, high = (
        next(w for w in model.layers[1].weights if w.name.endswith(end))
        for end in ("_min:0", "_max:0")
    )
    low.assign(RANGE[0])
    high.assign(RANGE[1])


def _calibrate(model: "keras.Model", inputs: np.ndarray) -> None:
    """Set the activation ranges to those of real images.

    Left alone they start at -6..6 and move by a thousandth a step, which a short fine-tuning
    never makes up for. One step from `old` to `new` gives away what the batch had:
    `(new - decay * old) / (1 - decay)`. The ranges are taken in three passes, since until the
    first ranges are right the later layers see coarsely rounded activations.
    """
    import tensorflow as tf

    ranges = [
        weight
        for layer in model.layers
        for weight in layer.weights
        if weight.name.split(":")[0].endswith(
            ("activation_min", "activation_max", "output_min", "output_max")
        )
    ]
    trainable = [layer.trainable for layer in model.layers]
    for layer in model.layers:  # statistics of batch normalisation must not move
        layer.trainable = False
    step = tf.function(lambda batch: model(batch, training=True))
    batches = np.array_split(inputs, max(1, len(inputs) // _CALIBRATION_BATCH))
    for _ in range(3):
        old = [weight.numpy() for weight in ranges]
        seen = []
        for batch in batches:
            for weight, value in zip(ranges, old, strict=True):
                weight.assign(value)
            step(batch)
            seen.append(
                [
                    (weight.numpy() - _RANGE_DECAY * value) / (1 - _RANGE_DECAY)
                    for weight, value in zip(ranges, old, strict=True)
                ]
            )
        for weight, value in zip(ranges, np.mean(seen, axis=0), strict=True):
            weight.assign(value)
    for layer, flag in zip(model.layers, trainable, strict=True):
        layer.trainable = flag
