"""Unstructured pruning: single weights become zero, by TensorFlow's model optimization toolkit.

The model keeps its shape, so that dense kernels gain nothing in speed; what shrinks is the
compressed file.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgecifar.compress.masks import LEAST_SHARE, kernels, zeros_of
from edgecifar.compress.preflight import require_known
from edgecifar.compress.prune import require_share
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import write_whole
from edgecifar.train.keras_files import load_model, save_model
from edgecifar.train.parsing import require
from edgecifar.train.progress import Report, ignore
from edgecifar.train.run import Run, start_run
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.compress.distil import Teacher
    from edgecifar.train.data import Dataset
    from edgecifar.train.pipeline import Feed

_UPDATES = 40  # of the masks while sparsity rises
_MOST = 0.99  # of one layer, so that every layer keeps something


@dataclasses.dataclass(frozen=True)
class Sparsification:
    """Which weights go, and how to fine-tune; all else of the training stays as it was."""

    sparsity: float = 0.8  # share of the kernels' weights that become zero; 0.5 with 2:4
    pattern: Literal["free", "2:4"] = "free"  # 2:4: two of four neighbours along the inputs
    keep: tuple[str, ...] = ()  # layers that stay dense
    ramp: int = 10  # epochs in which sparsity rises as a polynomial; with 2:4 it is there at once
    epochs: int = 15  # of fine-tuning after it, with the zeros held
    learning_rate: float | None = None  # the peak in either phase; by default as for `Pruning`
    ema: float = 0.99

    def __post_init__(self) -> None:
        require_share(self.sparsity, "--sparsity")
        if self.sparsity < LEAST_SHARE:
            raise EdgecifarError(
                f"--sparsity {self.sparsity:g} leaves fewer zeros than can be told from those of "
                f"chance: use {LEAST_SHARE:g} or more"
            )
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise EdgecifarError(
                f"sparsity is {self.sparsity:g}: 2:4 makes half of the weights zero, give 0.5"
            )
        require(self.ramp >= 1, "ramp", self.ramp, "1 or more")
        self.settings(Training())

    @property
    def description(self) -> str:
        """What it does, in words."""
        which = f"{100 * self.sparsity:.0f} % of its"
        if self.pattern == "2:4":
            which = "two of four neighbouring"
        epochs = self.ramp_settings(Training()).epochs + self.epochs
        return f"making {which} weights zero, {epochs} epochs"

    def run_name(self, parent: str) -> str:
        """Return such as `resnet8-s80` or `resnet8-2of4`."""
        gone = "2of4" if self.pattern == "2:4" else f"s{100 * self.sparsity:.0f}"
        return f"{parent}-{gone}"

    def require_possible(self, model: "keras.Model", dataset: "Dataset") -> None:
        """Raise EdgecifarError if `model` can't be pruned so, whatever its weights are."""
        layer_sparsity(model, self)

    def take(self, parent: Run, dataset: "Dataset", out: Path, **how) -> Run:
        """Carry it out; see `sparsify`."""
        return sparsify(parent, dataset, self, out, **how)

    def settings(self, parent: Training) -> Training:
        """Return the settings for fine-tuning a model that was trained with those of `parent`."""
        return parent.fine_tuning(
            epochs=self.epochs, learning_rate=self.learning_rate, usual=0.1, ema=self.ema
        )

    def ramp_settings(self, parent: Training) -> Training:
        """Return the settings while sparsity rises, in which nothing is averaged.

        An average would hold weights that are zero by now. The toolkit's wrappers know float32
        alone.
        """
        epochs = self.ramp if self.pattern == "free" else 1
        return dataclasses.replace(
            self.settings(parent), epochs=epochs, ema=0.0, precision="float32"
        )


def sparsify(
    parent: Run,
    dataset: "Dataset",
    recipe: Sparsification,
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    teacher: "Teacher | None" = None,
    report: Report = ignore,
) -> Run:
    """Make single weights of the model of `parent` zero and fine-tune it into the folder `out`.

    Resumes if it was begun. With a `teacher`, such as the parent itself, it learns from that as in
    distillation. Raises EdgecifarError, before any work, for a model or a share of zeros that
    can't be pruned and for layers that aren't there.
    """
    from edgecifar.compress.distil import fine_tuning_feed, taught_settings
    from edgecifar.compress.fine_tune import fine_tune
    from edgecifar.train.session import finish, inherited

    settings = taught_settings(teacher, dataset, inherited(parent, dataset))
    last = recipe.settings(settings)
    model = parent.load_model()
    shares = layer_sparsity(model, recipe)
    run = start_run(
        out,
        dataset,
        last,
        stage="sparsify",
        seed=seed,
        force=force,
        parent=parent,
        sparsification=dataclasses.asdict(recipe) | {"learning_rate": last.learning_rate},
        teacher=teacher.identity() if teacher else None,
    )
    report(f"raising sparsity in {len(shares)} layers")
    feed = partial(fine_tuning_feed, teacher, dataset, run=run, seed=seed, parent=parent)
    ramp = recipe.ramp_settings(settings)
    sparse, seconds = _ramp(model, feed(ramp), recipe, ramp, run.path / "ramp", seed=seed)
    report(f"fine-tuning with {100 * sparsity(sparse):.1f} % zeros held")
    result = fine_tune(sparse, feed(last), last, run.path, seed=seed)
    result = dataclasses.replace(result, seconds=result.seconds + seconds)
    finish(run, sparse, dataset, result, sparsity=sparsity(sparse))
    return run


def sparsity(model: "keras.Model") -> float:
    """Return the share of zeros among the weights of all convolution and dense kernels."""
    values = [variable.numpy() for _, variable in kernels(model)]
    return sum(int((value == 0).sum()) for value in values) / sum(value.size for value in values)


def layer_sparsity(model: "keras.Model", recipe: Sparsification) -> dict[str, float]:
    """Return the share of zeros that each pruned layer gets, so that all kernels make the target.

    Layers named in `keep`, depthwise kernels and layers with less than a hundredth of the weights
    (the first convolution, a small classifier) stay dense, since they'd lose much for little.
    Raises EdgecifarError if zeros that an earlier step made would be lost.
    """
    from edgecifar.compress.filters.prunable import require_prunable

    require_prunable(model)
    require_known(recipe.keep, [layer.name for layer in model.layers])
    sizes = {key: variable.shape.num_elements() for key, variable in kernels(model)}
    total = sum(sizes.values())
    pruned = {
        layer: size
        for (layer, kernel), size in sizes.items()
        if kernel != "depthwise_kernel" and layer not in recipe.keep and size >= total / 100
    }
    if not pruned:
        raise EdgecifarError("all layers are small or kept dense: leave out one --keep at least")
    reach = _MOST if recipe.pattern == "free" else 0.5
    share = recipe.sparsity * total / sum(pruned.values())
    if recipe.pattern == "free" and share > reach:
        nearest = int(100 * reach * sum(pruned.values()) / total) / 100
        raise EdgecifarError(
            f"--sparsity {recipe.sparsity:g} can't be met with these layers kept dense: "
            f"the most is {nearest:g}"
        )
    shares = dict.fromkeys(pruned, share if recipe.pattern == "free" else reach)
    for layer, zeros in _zeros(model).items():
        if recipe.pattern == "2:4" or shares.get(layer, 0) < zeros:
            raise EdgecifarError(
                f"layer {layer} has {100 * zeros:.0f} % zeros already, some of which would be "
                "lost: ask for more, not for 2:4 and without --keep, or start from the run before"
            )
    return shares


def _zeros(model: "keras.Model") -> dict[str, float]:
    """Return the share of zeros in the layers that were made sparse before."""
    return {layer: float((mask == 0).mean()) for (layer, _), mask in zeros_of(model).items()}


def _ramp(
    model: "keras.Model",
    feed: "Feed",
    recipe: Sparsification,
    settings: Training,
    folder: Path,
    *,
    seed: int,
) -> tuple["keras.Model", float]:
    """Return (the model with its zeros, seconds it took), with the ramp's last weights.

    The loop ends with the weights that were validated best, which would be those of an early
    epoch with few zeros; so each epoch's are stored, and the last taken.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    from edgecifar.train.checkpoint import seed_dropout
    from edgecifar.train.loop import fit

    wrapped = _wrap(model, recipe, settings.epochs * feed.steps)
    seed_dropout(wrapped, seed)
    stored = folder / "latest.h5"

    def store(*_) -> None:
        stripped = tfmot.sparsity.keras.strip_pruning(wrapped)
        write_whole(stored, partial(save_model, stripped))

    callbacks = (
        tfmot.sparsity.keras.UpdatePruningStep(),
        keras.callbacks.LambdaCallback(on_epoch_end=store),
    )
    seconds = fit(feed, wrapped, settings, folder, seed=seed, callbacks=callbacks).seconds
    return load_model(stored), seconds


def _wrap(model: "keras.Model", recipe: Sparsification, steps: int) -> "keras.Model":
    """Return `model` with the toolkit's pruning around the layers that shall have zeros."""
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    every = max(1, steps // _UPDATES)
    schedules, pruning, there = tfmot.sparsity.keras, {}, _zeros(model)
    for name, share in layer_sparsity(model, recipe).items():
        if recipe.pattern == "2:4":
            pruning[name] = {
                "pruning_schedule": schedules.ConstantSparsity(share, 0),
                "sparsity_m_by_n": (2, 4),
            }
        else:
            schedule = schedules.PolynomialDecay(
                there.get(name, 0.0),
                share,
                begin_step=0,
                end_step=steps // every * every,
                frequency=every,
            )
            pruning[name] = {"pruning_schedule": schedule}

    def wrap(layer):
        if layer.name not in pruning:
            return layer
        return tfmot.sparsity.keras.prune_low_magnitude(layer, **pruning[layer.name])

    return keras.models.clone_model(model, clone_function=wrap)
