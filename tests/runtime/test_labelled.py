import zipfile

import numpy as np
import pytest
from PIL import Image

from edgecifar.runtime import decoding, labelled
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.images import resize
from edgecifar.runtime.labelled import read_labelled

RANDOM = np.random.default_rng(5)
IMAGES = RANDOM.integers(0, 256, (60, 8, 8, 3), np.uint8)
LABELS = np.arange(60) % 2
CLASSES = ("cat", "dog")


def write_folder(root, rows):
    for row in rows:
        path = root / CLASSES[LABELS[row]] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[row]).save(path)
    return root


def pixels(images):
    return {image.tobytes() for image in images}


def test_test_part_is_read_whole(tmp_path):
    write_folder(tmp_path / "train", range(40))
    write_folder(tmp_path / "test", range(40, 60))
    found = read_labelled(tmp_path)
    assert found.classes == CLASSES
    assert pixels(found.images) == pixels(IMAGES[40:])
    assert found.of is None
    by_pixels = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    assert [by_pixels[image.tobytes()] for image in found.images] == found.labels.tolist()


def test_splits_of_one_set_do_not_overlap(tmp_path):
    write_folder(tmp_path, range(60))
    found = {name: read_labelled(tmp_path, split=name) for name in ("train", "validation", "test")}
    assert [len(split.labels) for split in found.values()] == [42, 6, 12]
    assert {split.of for split in found.values()} == {60}
    assert len(set.union(*(pixels(split.images) for split in found.values()))) == 60


def test_containers_agree(tmp_path):
    folder = write_folder(tmp_path / "set", range(60))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png"), reverse=True):
            archive.write(path, path.relative_to(tmp_path))
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS, classes=CLASSES)
    found = [read_labelled(path) for path in (folder, tmp_path / "set.zip", tmp_path / "set.npz")]
    assert len({one.fingerprint for one in found}) == 1
    assert all(np.array_equal(one.images, found[0].images) for one in found)
    assert {one.name for one in found} == {"set"}


def test_scaling_leaves_the_split_as_it_is(tmp_path):
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS)
    plain = read_labelled(tmp_path / "set.npz")
    small = read_labelled(tmp_path / "set.npz", image_size=(4, 4))
    assert small.images.shape == (12, 4, 4, 3)
    assert np.array_equal(small.labels, plain.labels)
    assert small.fingerprint != plain.fingerprint


def test_no_more_is_held_than_is_measured(tmp_path, monkeypatch):
    """A board has little memory, and most photos without a test part are for training."""
    write_folder(tmp_path, range(60))
    plain, held = read_labelled(tmp_path), []

    def decode(entries, classes, *, image_size, progress):
        held.append((len(entries), image_size))
        return decoding.decode(entries, classes, image_size=image_size, progress=progress)

    monkeypatch.setattr(labelled, "decode", decode)
    large = read_labelled(tmp_path, image_size=(16, 16))
    assert held == [(60, (1, 1)), (12, (16, 16))]
    assert np.array_equal(large.labels, plain.labels)
    for image, small in zip(large.images, plain.images, strict=True):
        assert np.array_equal(image, resize(small, 16, 16))


def test_packed_file_is_one_split(tmp_path):
    path = tmp_path / "pack.npz"
    np.savez(path, images=IMAGES, labels=LABELS, split="train", name="pets")
    found = read_labelled(path, split="train")
    assert len(found.labels) == 60
    assert found.name == "pets"
    with pytest.raises(EdgecifarError, match="packed from train: give a file packed from test"):
        read_labelled(path)


def test_a_corrupt_image_is_named(tmp_path):
    write_folder(tmp_path, range(60))
    (tmp_path / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(EdgecifarError, match=r"0\.png is not an image: replace or remove it$"):
        read_labelled(tmp_path)


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "cifar-10-batches-py/test_batch"])
def test_official_archives_are_for_the_workstation(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    given = path if path.suffix else path.parent
    with pytest.raises(EdgecifarError, match=r"run `edgecifar data pack --data .*` on the work"):
        read_labelled(given)


def test_unknown_split(tmp_path):
    with pytest.raises(EdgecifarError, match="unknown split exam: choose one of train"):
        read_labelled(tmp_path, split="exam")


def test_absent_split(tmp_path):
    write_folder(tmp_path / "test", range(20))
    with pytest.raises(EdgecifarError, match="has only test images"):
        read_labelled(tmp_path, split="train")


@pytest.mark.parametrize("name", ["test", "Testing", "val"])
def test_a_part_that_is_given_alone_is_taken_whole(tmp_path, name):
    folder = write_folder(tmp_path / name, range(60))
    beside = read_labelled(write_folder(tmp_path / "set" / "test", range(60)).parent)
    with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    np.savez(tmp_path / f"{name}.npz", images=IMAGES, labels=LABELS, classes=CLASSES)
    for path in (folder, folder.with_suffix(".zip"), folder.with_suffix(".npz")):
        found = read_labelled(path)
        assert (len(found.labels), found.of) == (60, None)
        assert found.fingerprint == beside.fingerprint
        with pytest.raises(EdgecifarError, match=r"has only (test|validation) images"):
            read_labelled(path, split="train")


def test_training_images_given_alone_are_divided(tmp_path):
    found = read_labelled(write_folder(tmp_path / "train", range(60)))
    assert (len(found.labels), found.of) == (12, 60)


def test_progress_is_told_image_by_image_where_they_are_few(tmp_path):
    seen = []
    read_labelled(write_folder(tmp_path, range(12)), progress=lambda *state: seen.append(state))
    assert seen == [(count, 12) for count in range(1, 13)]
