import time

import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.labelled import in_memory, read_labelled
from edgecifar.train.data import fetch, load
from edgecifar.train.data.cache import CIFAR10_FINGERPRINT
from edgecifar.train.data.pack import pack

CONTAINERS = ["zips", "zip", "npz", "python tar", "python folder", "python 3", "binary tar"]


@pytest.mark.parametrize("kind", [*CONTAINERS, "binary folder"])
def test_every_container_gives_the_same_set(containers, kind):
    expected, found = load(containers["folders"]), load(containers[kind])
    assert found.fingerprint == expected.fingerprint
    assert found.classes == expected.classes == ("nought", "one", "two")
    for name, split in found.splits.items():
        assert np.array_equal(split.images, expected.splits[name].images)
        assert np.array_equal(split.labels, expected.splits[name].labels)


def test_images_keep_their_labels(containers, sample):
    known = {}
    for images, labels in sample.parts().values():
        known |= {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    dataset = load(containers["zips"])
    for split in dataset.splits.values():
        assert [known[image.tobytes()] for image in split.images] == split.labels.tolist()
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 270,
        "validation": 30,
        "test": 100,
    }


def test_device_reads_the_same_splits(containers, helpers, sample, tmp_path):
    single = helpers.images(tmp_path / "photos.2024", *sample.train)
    assert load(single).name == "photos.2024"
    for path in (containers["zips"], containers["npz"], single):
        for size in (None, (16, 16)):
            dataset = load(path, image_size=size)
            for name, split in dataset.splits.items():
                found = read_labelled(path, split=name, image_size=size)
                assert found.name == dataset.name
                assert np.array_equal(found.images, split.images)
                assert np.array_equal(found.labels, split.labels)


@pytest.mark.parametrize("size", [None, (16, 16)])
def test_test_images_are_the_same_in_the_same_order_however_they_come(containers, tmp_path, size):
    """Benches of a recipe, of a packed file and of the photos are compared image by image."""
    dataset = load(containers["zips"], image_size=size)
    pack(dataset, "test", tmp_path / "test.npz")
    packed = read_labelled(tmp_path / "test.npz")
    photos = read_labelled(containers["zips"], image_size=size)
    recipe = in_memory(dataset.test.images, dataset.test.labels, dataset.classes, dataset.name)
    assert packed.fingerprint == photos.fingerprint == recipe.fingerprint
    for found in (packed, photos):
        assert np.array_equal(found.images, recipe.images)
        assert np.array_equal(found.labels, recipe.labels)


def test_one_set_is_divided(helpers, sample, tmp_path):
    dataset = load(helpers.images(tmp_path / "single", *sample.train))
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert sizes["test"] == pytest.approx(60, abs=2)
    assert sizes["validation"] == pytest.approx(30, abs=2)
    assert sum(sizes.values()) == 300
    seen = [image.tobytes() for split in dataset.splits.values() for image in split.images]
    assert len(set(seen)) == 300


def test_validation_part_is_taken_as_it_is(helpers, sample, tmp_path):
    images, labels = sample.train
    helpers.images(tmp_path / "set" / "train", images[:200], labels[:200])
    helpers.images(tmp_path / "set" / "val", images[200:], labels[200:])
    helpers.images(tmp_path / "set" / "test", *sample.test)
    sizes = {name: len(split) for name, split in load(tmp_path / "set").splits.items()}
    assert sizes == {"train": 200, "validation": 100, "test": 100}


def test_scaled_images_keep_their_splits(containers):
    plain, small = load(containers["zips"]), load(containers["zips"], image_size=8)
    assert small.image_size == (8, 8)
    assert load(containers["zips"], image_size=(8, 16)).image_size == (8, 16)
    assert np.array_equal(small.test.labels, plain.test.labels)
    assert small.fingerprint != plain.fingerprint
    assert load(containers["zips"], image_size=32).fingerprint == plain.fingerprint


def test_corrupt_image_is_named_or_skipped(helpers, sample, tmp_path, capsys):
    folder = helpers.images(tmp_path / "set", *sample.train)
    (folder / "one" / "0001.png").write_text("no image")
    with pytest.raises(EdgecifarError, match=r"one/0001\.png is not an image: .*--skip-corrupt"):
        load(folder)
    for _ in range(2):  # decoded, then from the cache
        dataset = load(folder, skip_corrupt=True)
        assert sum(len(split) for split in dataset.splits.values()) == 299
        assert capsys.readouterr().err.startswith("1 corrupt image was skipped: ")


def test_order_of_the_places(containers, monkeypatch, cache, capsys):
    monkeypatch.setitem(
        fetch.ARCHIVES,
        "cifar10",
        fetch.Archive("cifar10", "http://127.0.0.1:9/cifar-10-python.tar.gz", "0" * 64),
    )
    assert load(download=False).name == "digits"
    assert load().name == "digits"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "no download of cifar10 was asked for: taking scikit-learn's digits" in lines[0]
    assert "can't be reached (ConnectionError): taking scikit-learn's digits" in lines[1]
    downloads = cache / "downloads"
    (downloads / "cifar-10-python.tar.gz").write_bytes(containers["python tar"].read_bytes())
    assert load().source == str(downloads / "cifar-10-python.tar.gz")
    monkeypatch.setenv("EDGECIFAR_DATA", str(containers["zips"]))
    assert load().source == str(containers["zips"])
    assert load(containers["npz"]).source == str(containers["npz"])


def test_digits(capsys):
    dataset = load("digits")
    assert dataset.image_size == (32, 32)
    assert dataset.classes == tuple("0123456789")
    assert sum(len(split) for split in dataset.splits.values()) == 1797
    assert dataset.train.images.max() == 255
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["nowhere", "notes.txt"])
def test_what_is_no_data_set(tmp_path, monkeypatch, name):
    (tmp_path / "notes.txt").write_text("text")
    path = tmp_path / name
    with pytest.raises(EdgecifarError, match=r"does not exist: check|is no data set: give a"):
        load(path)
    monkeypatch.setenv("EDGECIFAR_DATA", str(path))
    with pytest.raises(EdgecifarError, match=r"\(named by EDGECIFAR_DATA\)"):
        load()


def test_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgecifarError, match=r"no images in .*empty: give a folder or zip"):
        load(tmp_path / "empty")


@pytest.mark.slow
def test_the_real_cifar10(cifar10_path, helpers, tmp_path):
    start = time.perf_counter()
    dataset = load(cifar10_path)
    decoding = time.perf_counter() - start
    start = time.perf_counter()
    assert load(cifar10_path).fingerprint == dataset.fingerprint == CIFAR10_FINGERPRINT
    assert time.perf_counter() - start < 1
    assert decoding < 40
    counts = [np.bincount(split.labels).tolist() for split in dataset.splits.values()]
    assert counts == [[4500] * 10, [500] * 10, [1000] * 10]
    # The mean of each channel of the training images, as published in many places.
    whole = np.concatenate([dataset.train.images, dataset.validation.images])
    assert whole.mean(axis=(0, 1, 2)) / 255 == pytest.approx([0.49139968, 0.48215841, 0.44653091])
    batches = np.split(np.arange(50_000), 5)
    labels = np.concatenate([dataset.train.labels, dataset.validation.labels])
    files = {"batches.meta": {b"label_names": [name.encode() for name in dataset.classes]}}
    for number, batch in enumerate(batches, start=1):
        content = {b"data": helpers.rows(whole[batch]), b"labels": labels[batch].tolist()}
        files[f"data_batch_{number}"] = content
    test = dataset.test
    files["test_batch"] = {b"data": helpers.rows(test.images), b"labels": test.labels.tolist()}
    archive = {name: helpers.pickled(content) for name, content in files.items()}
    rebuilt = load(helpers.files(tmp_path / "cifar-10-batches-py", archive))
    assert (rebuilt.fingerprint, rebuilt.name) == (CIFAR10_FINGERPRINT, "cifar10")
    altered = bytearray(archive["data_batch_3"])
    altered[len(altered) // 2] ^= 1
    helpers.files(tmp_path / "cifar-10-batches-py", {"data_batch_3": altered})
    with pytest.raises(EdgecifarError, match="is altered, its images or labels are not CIFAR-10"):
        load(tmp_path / "cifar-10-batches-py")
