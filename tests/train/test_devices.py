import csv
import subprocess
import sys

import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.devices import replicate, start_strategy

# A process of its own: TensorFlow divides the CPU only before its first use.
TRAIN = """
import sys
from pathlib import Path
from edgecifar.train.backend import start_tensorflow
tf = start_tensorflow()
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from edgecifar.train.data import load
from edgecifar.train.settings import Augmentation, Training
from edgecifar.train.session import train
settings = Training(
    epochs=2, batch_size=128, learning_rate=0.001, schedule="constant", ema=0.9,
    augment=Augmentation(flip="none", crop=2),
)
for strategy in ("none", "mirrored"):
    out = Path(sys.argv[1]) / strategy
    train("edge-8-s16", load("digits"), settings, out, strategy=strategy)
"""


def history(out):
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[name]) for name in ("loss", "val_loss")] for row in rows])


@pytest.mark.slow
def test_two_devices_give_the_loss_of_one(tmp_path):
    subprocess.run([sys.executable, "-c", TRAIN, str(tmp_path)], check=True, capture_output=True)
    one, two = (history(tmp_path / strategy) for strategy in ("none", "mirrored"))
    # Float32 sums in another order. Statistics of half a batch would change the loss by percents.
    np.testing.assert_allclose(two, one, rtol=2e-3)


def test_a_replica_is_the_same_network():
    from edgecifar.train import models

    model = models.find("resnet8").build((32, 32), 10)
    twin = replicate(model)
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(twin(images), model(images), atol=1e-6)
    norms = [layer for layer in twin.layers if "batch_normalization" in layer.name]
    assert norms
    assert all(layer.synchronized for layer in norms)


def test_one_device_needs_no_strategy():
    assert start_strategy("none", batch_size=1) is None


def test_an_indivisible_batch_is_refused(monkeypatch):
    import tensorflow as tf

    found = [tf.config.LogicalDevice(f"/device:GPU:{index}", "GPU") for index in range(3)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: found)
    with pytest.raises(EdgecifarError, match=r"128 can't be divided among 3.*--batch-size 126"):
        start_strategy("mirrored", batch_size=128)
