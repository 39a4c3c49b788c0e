"""Small real data: scikit-learn's digits 0 to 2, in every container that can be read."""

import io
import os
import pickle
import struct
import tarfile
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

ORIGINAL_DATA = os.environ.get("EDGECIFAR_DATA")
CLASSES = ("nought", "one", "two")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Give every test a cache of its own and no data from outside."""
    monkeypatch.setenv("EDGECIFAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGECIFAR_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def cifar10_path():
    """The real CIFAR-10, if the environment names it."""
    if not ORIGINAL_DATA:
        pytest.skip("EDGECIFAR_DATA is not set")
    return ORIGINAL_DATA


@dataclass(frozen=True)
class Sample:
    """Images uint8 [N, 32, 32, 3] and labels of a training and a test part."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    def parts(self):
        return {"train": self.train, "test": self.test}


@pytest.fixture(scope="session")
def sample():
    from sklearn.datasets import load_digits

    digits = load_digits(n_class=3)
    grey = (digits.images * 15).astype(np.uint8)
    large = np.kron(grey, np.ones((4, 4), np.uint8))
    colour = np.stack([large, 255 - large, np.roll(large, 3, axis=1)], axis=-1)
    labels = digits.target.astype(np.int64)
    return Sample((colour[:300], labels[:300]), (colour[300:400], labels[300:400]))


def write_images(root, images, labels):
    """Write one class folder for each label, the images as PNG."""
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / CLASSES[label] / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


def zip_folder(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return path


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, as in the archives of 2009."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def pickled(value, *, python2=True):
    stream = io.BytesIO()
    if not python2:
        return pickle.dumps(value, protocol=2)
    Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def rows(images):
    """Images as CIFAR stores them: uint8 [N, 3072], channel after channel."""
    return np.array(images).transpose(0, 3, 1, 2).reshape(len(images), -1).copy()


def python_files(sample, *, python2=True):
    """The files of a CIFAR-10 archive in its python version, by name."""
    batches = np.array_split(np.arange(len(sample.train[1])), 5)
    files = {"batches.meta": {b"label_names": [name.encode() for name in CLASSES]}}
    for number, batch in enumerate(batches, start=1):
        files[f"data_batch_{number}"] = {
            b"data": rows(sample.train[0][batch]),
            b"labels": sample.train[1][batch].tolist(),
            b"batch_label": b"training batch",
        }
    files["test_batch"] = {b"data": rows(sample.test[0]), b"labels": sample.test[1].tolist()}
    return {name: pickled(content, python2=python2) for name, content in files.items()}


def binary_files(sample):
    """The files of a CIFAR-10 archive in its binary version, by name."""

    def content(images, labels):
        return np.hstack([labels[:, None].astype(np.uint8), rows(images)]).tobytes()

    batches = np.array_split(np.arange(len(sample.train[1])), 5)
    files = {
        f"data_batch_{number}.bin": content(sample.train[0][batch], sample.train[1][batch])
        for number, batch in enumerate(batches, start=1)
    }
    files["test_batch.bin"] = content(*sample.test)
    files["batches.meta.txt"] = "\n".join((*CLASSES, "")).encode()
    return files


def write_files(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_tar(path, files):
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="session")
def containers(sample, tmp_path_factory):
    """The same images in every container, by a name for each."""
    root = tmp_path_factory.mktemp("containers")
    for part, (images, labels) in sample.parts().items():
        write_images(root / "folders" / part, images, labels)
        (root / "zips").mkdir(exist_ok=True)
        zip_folder(root / "folders" / part, root / "zips" / f"{part}.zip")
    np.savez(
        root / "keras.npz",
        **{
            f"{axis}_{part}": array
            for part, pair in sample.parts().items()
            for axis, array in zip("xy", pair, strict=True)
        },
        classes=CLASSES,
    )
    return {
        "folders": root / "folders",
        "zips": root / "zips",
        "zip": zip_folder(root / "folders", root / "both.zip"),
        "npz": root / "keras.npz",
        "python tar": write_tar(root / "cifar-10-python.tar.gz", python_files(sample)),
        "python folder": write_files(root / "cifar-10-batches-py", python_files(sample)),
        "python 3": write_files(root / "repickled", python_files(sample, python2=False)),
        "binary tar": write_tar(root / "cifar-10-binary.tar.gz", binary_files(sample)),
        "binary folder": write_files(root / "cifar-10-batches-bin", binary_files(sample)),
    }


@pytest.fixture
def helpers():
    """The writers above, for tests that need an altered container."""
    import types

    return types.SimpleNamespace(
        images=write_images,
        zip=zip_folder,
        python_files=python_files,
        binary_files=binary_files,
        files=write_files,
        tar=write_tar,
        pickled=pickled,
        rows=rows,
    )
