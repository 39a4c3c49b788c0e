"""Going on with the training of a float model that something was taken from."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgecifar.compress.masks import hold, require_held, zeros_of
from edgecifar.train.settings import Training

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.checkpoint import Fit
    from edgecifar.train.pipeline import Feed


def fine_tune(
    model: "keras.Model", feed: "Feed", settings: Training, folder: Path, *, seed: int
) -> "Fit":
    """Fit `model`, which is float32, in place as `fit` does, in the precision of `settings`.

    What was pruned of it weight by weight stays zero.
    """
    from edgecifar.train.checkpoint import seed_dropout
    from edgecifar.train.loop import fit
    from edgecifar.train.precision import computing_in, recast

    with computing_in(settings.precision) as policy:
        fitted = recast(model, policy)
        seed_dropout(fitted, seed)
        held = hold(fitted, zeros_of(fitted))
        result = fit(feed, fitted, settings, folder, seed=seed)
    require_held(held)
    if fitted is not model:
        model.set_weights(fitted.get_weights())
    return result
