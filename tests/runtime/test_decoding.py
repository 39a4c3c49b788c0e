import time

import numpy as np
import pytest
from PIL import Image

from edgecifar.runtime import decoding, images
from edgecifar.runtime.decoding import decode, scaled
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.folders import Entry
from edgecifar.runtime.splits import digest_all

CLASSES = ("a", "b")


@pytest.fixture
def entries(tmp_path):
    """300 images, more than two tasks' worth, each of another grey."""
    found = []
    for index in range(300):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (6, 4), (index % 256, index // 256, 7)).save(path)
        found.append(Entry(CLASSES[index % 2], path.name, path))
    return found


def test_images_and_labels_keep_their_order(entries):
    seen = []
    found = decode(entries, CLASSES, progress=lambda *state: seen.append(state))
    assert found.images.shape == (300, 4, 6, 3)
    assert np.array_equal(found.images[:, 0, 0, 0], np.arange(300) % 256)
    assert np.array_equal(found.labels, np.arange(300) % 2)
    assert np.array_equal(found.digests, digest_all(found.images))
    assert seen[-1] == (300, 300)
    assert found.skipped == ()


def test_corrupt_image_is_named_with_the_mend(entries):
    entries[5].container.write_bytes(b"text")
    entries[200].container.write_bytes(b"text")
    with pytest.raises(EdgecifarError, match=r"^5\.png is not an image: replace or remove it$"):
        decode(entries, CLASSES)
    with pytest.raises(EdgecifarError, match=r"^5\.png is not an image: ask its owner$"):
        decode(entries, CLASSES, mend="ask its owner")


def test_corrupt_images_are_skipped_and_told(entries):
    for index in (0, 5, 299):
        entries[index].container.write_bytes(b"text")
    found = decode(entries, CLASSES, skip_corrupt=True)
    kept = np.setdiff1d(np.arange(300), [0, 5, 299])
    assert np.array_equal(found.images[:, 0, 0, 0], kept % 256)
    assert np.array_equal(found.labels, kept % 2)
    assert np.array_equal(found.digests, digest_all(found.images))
    assert [line.split(" ")[0] for line in found.skipped] == ["0.png", "5.png", "299.png"]


def test_nothing_readable(entries):
    for entry in entries[:3]:
        entry.container.write_bytes(b"text")
    with pytest.raises(EdgecifarError, match=r"^none of 3 images can be read \(0\.png is not"):
        decode(entries[:3], CLASSES, skip_corrupt=True)


def test_mixed_sizes_name_both_and_the_mend(entries):
    Image.new("RGB", (9, 5)).save(entries[3].container)
    with pytest.raises(EdgecifarError, match=r"3\.png is 9x5 and 0\.png 6x4: .*--image-size N"):
        decode(entries, CLASSES)
    assert decode(entries, CLASSES, image_size=(4, 6)).images.shape == (300, 4, 6, 3)


def test_scaling_keeps_the_identity_of_the_original(entries):
    plain = decode(entries, CLASSES)
    small = decode(entries, CLASSES, image_size=(2, 3))
    assert small.images.shape == (300, 2, 3, 3)
    assert np.array_equal(plain.digests, small.digests)
    assert (plain.scaled_to, small.scaled_to) == (None, (2, 3))
    assert decode(entries, CLASSES, image_size=(4, 6)).scaled_to is None


def test_arrays_scale_as_files_do(entries):
    plain = decode(entries, CLASSES)
    files, arrays = decode(entries, CLASSES, image_size=(2, 3)), None
    arrays = scaled(plain.images, plain.labels, (2, 3))
    assert np.array_equal(files.images, arrays.images)
    assert np.array_equal(files.digests, arrays.digests)
    assert arrays.scaled_to == files.scaled_to


def test_large_photos_wait_for_each_other(tmp_path, monkeypatch):
    """Scaling included: until then all of each is held."""
    found = [Entry("a", f"{n}.png", tmp_path / f"{n}.png") for n in range(8)]
    for entry in found:
        Image.new("RGB", (20, 20)).save(entry.container)
    monkeypatch.setattr(images, "MAX_PIXELS", 20 * 20)
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 4)
    at_once, most = [], []

    def resize(image, height, width):
        at_once.append(image)
        most.append(len(at_once))
        time.sleep(0.02)
        at_once.pop()
        return images.resize(image, height, width)

    monkeypatch.setattr(decoding, "resize", resize)
    assert decode(found, CLASSES, image_size=(4, 4)).images.shape == (8, 4, 4, 3)
    assert max(most) == 1
