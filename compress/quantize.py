"""Fine-tuning with quantization in the loop, so that the weights learn to live with int8."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.compress.apart import split
from edgecifar.compress.calibration import calibration_images
from edgecifar.compress.int8 import INT8, Int8
from edgecifar.compress.masks import hold, hold_still, require_held, zeros_of
from edgecifar.compress.order import restore_order
from edgecifar.compress.quantizable import require_quantizable
from edgecifar.compress.release import release
from edgecifar.compress.scheme import scheme
from edgecifar.compress.selective import file_part, fused_with
from edgecifar.compress.wrappers import by_name, input_quantizer
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.adopt.copying import SHIFT
from edgecifar.train.normalisation import RANGE, normalise
from edgecifar.train.pipeline import images_at_once
from edgecifar.train.run import Run, start_run
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.compress.distil import Teacher
    from edgecifar.train.data import Dataset

_RANGE_DECAY = 0.999  # of the moving averages in which the toolkit keeps activation ranges
_CALIBRATION_IMAGES, _CALIBRATION_BATCH = 1024, 128
_COUNTS = ("parameters", "macs")


@dataclasses.dataclass(frozen=True)
class Quantization:
    """What fine-tuning takes from its own recipe; all else stays as the float run had it.

    Layers in `keep_float` are not quantized, nor what is fused with them into one operation.
    """

    epochs: int = 8
    learning_rate: float | None = None  # the peak; by default 0.01, see `Training.fine_tuning`
    ema: float = 0.99
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep_float", tuple(dict.fromkeys(self.keep_float)))
        self.settings(Training())

    @property
    def description(self) -> str:
        """What it does, in words."""
        return f"fine-tuning with quantization in the loop, {self.epochs} epochs"

    def run_name(self, parent: str) -> str:
        """Return such as `resnet8-qat` or `resnet8-qat-float-dense`."""
        return f"{parent}-qat{file_part(self.keep_float)}"

    def require_possible(self, model: "keras.Model", dataset: "Dataset") -> None:
        """Raise EdgecifarError if the toolkit can't take `model`, whatever its weights are."""
        require_quantizable(model)
        if self.keep_float:
            _simulated(model, self.keep_float)

    def take(self, parent: Run, dataset: "Dataset", out: Path, *, report, **how) -> Run:
        """Carry it out; see `quantize`, which has nothing to report."""
        return quantize(parent, dataset, self, out, **how)

    def settings(self, parent: Training) -> Training:
        """Return the settings for fine-tuning a model that was trained with those of `parent`.

        Ranges and rounding need the full mantissa, so that it computes in float32.
        """
        settings = parent.fine_tuning(
            epochs=self.epochs, learning_rate=self.learning_rate, usual=0.01, ema=self.ema
        )
        return dataclasses.replace(settings, precision="float32")


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
    from edgecifar.compress.distil import fine_tuning_feed, taught_settings
    from edgecifar.train.loop import fit
    from edgecifar.train.session import finish, inherited

    settings = taught_settings(teacher, dataset, recipe.settings(inherited(parent, dataset)))
    model = parent.load_model()
    images = calibration_images(dataset, _CALIBRATION_IMAGES)
    prepared = prepare(model, images, keep_float=recipe.keep_float)
    _require_same_work(prepared, parent)
    _require_int8(prepared, parent, recipe, images)
    held = hold(prepared, zeros_of(model))
    run = start_run(
        out,
        dataset,
        settings,
        stage="quantize",
        seed=seed,
        force=force,
        parent=parent,
        keep_float=list(recipe.keep_float),
        teacher=teacher.identity() if teacher else None,
    )
    feed = fine_tuning_feed(teacher, dataset, settings, run, seed=seed, parent=parent)
    result = fit(feed, prepared, settings, run.path, seed=seed)
    require_held(held)
    # The counts are of the network itself, without the bookkeeping of its quantizers.
    finish(run, prepared, dataset, result, **{key: parent.info[key] for key in _COUNTS})
    return run


def _require_same_work(prepared: "keras.Model", parent: Run) -> None:
    """Raise EdgecifarError if the toolkit's rewrite lost what pruning had won."""
    from edgecifar.train.macs import count_macs

    macs = count_macs(prepared)
    if macs > parent.info["macs"]:
        raise EdgecifarError(
            f"prepared for int8, {parent.name} takes {macs:,} MACs instead of "
            f"{parent.info['macs']:,}: the quantization toolkit has rewritten a layer"
        )


def _require_int8(
    prepared: "keras.Model", parent: Run, recipe: Quantization, images: np.ndarray
) -> None:
    """Raise EdgecifarError now, and not after hours, if the file won't be in int8 as asked."""
    form = Int8(recipe.keep_float).formats(parent)[INT8]
    name = form.file_name(recipe.run_name(parent.name))
    form.inspect(form.convert(prepared, images), prepared, name)


def prepare(
    model: "keras.Model", images: np.ndarray, *, keep_float: Collection[str] = ()
) -> "keras.Model":
    """Return `model` with simulated int8 weights and activations, its ranges calibrated.

    `images` are uint8 [n, height, width, 3] from training. Layers in `keep_float` stay in float,
    with those that TFLite fuses with them. Raises EdgecifarError for a model that the toolkit
    can't take, and for layers that aren't there.
    """
    require_quantizable(model)
    prepared = _simulated(model, keep_float)
    _fix_input_range(prepared)
    _drop_nothing(prepared)
    _calibrate(prepared, images)
    hold_still(prepared, SHIFT)
    return prepared


def _simulated(model: "keras.Model", keep_float: Collection[str]) -> "keras.Model":
    """Return `model` wrapped by the toolkit, but for the layers in `keep_float`."""
    import tensorflow_model_optimization as tfmot

    floats = fused_with(model, keep_float) if keep_float else ()
    model, apart = split(model)
    annotated = tfmot.quantization.keras.quantize_annotate_model(model)
    prepared = restore_order(tfmot.quantization.keras.quantize_apply(annotated, scheme()), model)
    return release(prepared, floats, rewritten=apart) if floats else prepared


def _fix_input_range(model: "keras.Model") -> None:
    """Give the input exactly the range of all pixels, so that int8 means pixel - 128.

    The quantizer widens its range when it sees more, and never does: no image exceeds it.
    """
    quantizer = next(layer for layer in model.layers if isinstance(layer, input_quantizer()))
    for end, value in zip(("min", "max"), RANGE, strict=True):
        by_name(quantizer)[f"{quantizer.name}_{end}"].assign(value)


def _drop_nothing(model: "keras.Model") -> None:
    """Switch dropout off: what it scales up widens ranges that inference never needs."""
    import tf_keras as keras

    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, keras.layers.Dropout):
            inner.rate = 0.0


def _calibrate(model: "keras.Model", images: np.ndarray) -> None:
    """Set the activation ranges to those of real images, uint8 [n, height, width, 3].

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
    size = min(_CALIBRATION_BATCH, images_at_once(model))
    batches = np.array_split(images, -(-len(images) // size))
    for _ in range(3):
        old = [weight.numpy() for weight in ranges]
        seen = []
        for batch in batches:
            for weight, value in zip(ranges, old, strict=True):
                weight.assign(value)
            step(normalise(batch.astype(np.float32)))
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
