import gzip
import os
import pickle

import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.data import cache, cifar, load


class Malice:
    """Creates a file when it is unpickled by anything that obeys."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_unpickler_admits_nothing_else(helpers, sample, tmp_path):
    files = helpers.python_files(sample)
    content = {b"data": np.zeros((1, 3072), np.uint8), b"labels": [Malice(tmp_path / "made")]}
    files["data_batch_2"] = pickle.dumps(content, protocol=2)
    folder = helpers.files(tmp_path / "batches", files)
    with pytest.raises(EdgecifarError, match=r"data_batch_2 of .* \(it asks for posix\.mkdir\)"):
        cifar.read(folder)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}q\x00.",
        pickle.dumps([1, 2], protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 99), np.uint8), b"labels": [0, 1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 3]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, -1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": ["0", "1"]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8)}, protocol=2),
    ],
)
def test_altered_batch_is_named(helpers, sample, tmp_path, content):
    files = helpers.python_files(sample) | {"test_batch": content}
    folder = helpers.files(tmp_path / "batches", files)
    with pytest.raises(EdgecifarError, match=r"test_batch of .* altered .*download the archive"):
        cifar.read(folder)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_batch_is_named(helpers, sample, tmp_path, share):
    for files, name in (
        (helpers.python_files(sample), "data_batch_5"),
        (helpers.binary_files(sample), "data_batch_5.bin"),
    ):
        cut = int(share * len(files[name])) + 1
        folder = helpers.files(tmp_path / name, files | {name: files[name][:cut]})
        with pytest.raises(EdgecifarError, match=f"{name} of .* is truncated or altered"):
            cifar.read(folder)


@pytest.mark.parametrize("share", [0, 0.3, 0.999])
def test_truncated_tar(containers, tmp_path, share):
    content = containers["python tar"].read_bytes()
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(EdgecifarError, match=r"python\.tar\.gz .*(truncated|lacks|no CIFAR)"):
        cifar.read(path)


def test_flipped_bits_of_a_tar_are_noticed(containers, tmp_path):
    content = containers["python tar"].read_bytes()
    path = tmp_path / "cifar-10-python.tar.gz"
    noticed = 0
    # Behind the gzip header, whose file name and time are not content.
    for place in np.linspace(100, len(content) - 5, 20).astype(int):
        altered = bytearray(content)
        altered[place] ^= 4
        path.write_bytes(altered)
        try:
            cifar.read(path)
        except EdgecifarError:
            noticed += 1
        else:  # Deflate has padding, and more than one way to say the same.
            assert gzip.decompress(altered) == gzip.decompress(content)
    assert noticed > 10


@pytest.mark.parametrize("name", ["data_batch_4", "batches.meta"])
def test_missing_file_is_named(helpers, sample, tmp_path, name):
    files = helpers.python_files(sample)
    del files[name]
    with pytest.raises(EdgecifarError, match=f"lacks {name}: download the archive again"):
        cifar.read(helpers.files(tmp_path / "batches", files))


def test_archive_of_something_else(helpers, tmp_path):
    path = helpers.tar(tmp_path / "other.tar.gz", {"readme": b"text"})
    with pytest.raises(EdgecifarError, match=r"holds no CIFAR batches: .* images of your own"):
        cifar.read(path)


def test_an_archive_beside_other_images_is_no_batches_folder(helpers, tmp_path):
    helpers.tar(tmp_path / "cifar-10-python.tar.gz", {"readme": b"text"})
    with pytest.raises(EdgecifarError, match=r"holds no CIFAR batches: .* images of your own"):
        cifar.read(tmp_path)


def test_full_set_with_other_images_is_altered(containers, monkeypatch):
    monkeypatch.setattr(cache, "_CIFAR10_IMAGES", 400)
    with pytest.raises(EdgecifarError, match=r"cifar-10-python\.tar\.gz is altered"):
        load(containers["python tar"])
    load(containers["zips"])  # a folder may hold whatever it likes


def test_cifar100(helpers, sample, tmp_path):
    names = [b"nought", b"one", b"two"]
    files = {"meta": helpers.pickled({b"fine_label_names": names, b"coarse_label_names": []})}
    for part, (images, labels) in sample.parts().items():
        content = {b"data": helpers.rows(images), b"fine_labels": labels.tolist()}
        files[part] = helpers.pickled(content | {b"coarse_labels": [0] * len(labels)})
    python = load(helpers.files(tmp_path / "cifar-100-python", files))
    assert python.name == "cifar100"
    binary = {"fine_label_names.txt": b"nought\none\ntwo\n"}
    for part, (images, labels) in sample.parts().items():
        both = np.stack([np.zeros_like(labels), labels], axis=1).astype(np.uint8)
        binary[f"{part}.bin"] = np.hstack([both, helpers.rows(images)]).tobytes()
    plain = load(helpers.files(tmp_path / "bin", binary))
    assert (plain.name, plain.fingerprint) == ("cifar100", python.fingerprint)
