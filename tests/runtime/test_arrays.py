import numpy as np
import pytest

from edgecifar.runtime.arrays import read_npz
from edgecifar.runtime.errors import EdgecifarError

IMAGES = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
LABELS = np.array([0, 1, 1, 0])


def written(tmp_path, **arrays):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, **arrays)
    return path


def test_images_and_labels(tmp_path):
    found = read_npz(written(tmp_path, images=IMAGES, labels=LABELS, classes=["cat", "dog"]))
    assert found.classes == ("cat", "dog")
    stored = written(tmp_path, images=IMAGES, labels=LABELS, classes=[b"cat", "Kühe".encode()])
    assert read_npz(stored).classes == ("cat", "Kühe")
    assert not found.packed
    images, labels = found.parts["all"]
    assert np.array_equal(images, IMAGES)
    assert labels.dtype == np.int64


def test_packed_split(tmp_path):
    names = {"split": "test", "name": "pets", "dataset_fingerprint": "abc"}
    found = read_npz(written(tmp_path, images=IMAGES, labels=LABELS, **names))
    assert list(found.parts) == ["test"]
    assert (found.packed, found.name, found.dataset_fingerprint) == (True, "pets", "abc")


def test_keras_names_and_grey(tmp_path):
    grey, column = IMAGES[..., 0], LABELS[:, None].astype(np.uint8)
    path = written(tmp_path, x_train=grey, y_train=column, x_test=grey[:2], y_test=column[:2])
    found = read_npz(path)
    assert found.classes == ("0", "1")
    assert list(found.parts) == ["train", "test"]
    assert np.array_equal(found.parts["train"][0], np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": IMAGES}, "holds pictures: name its arrays images and labels"),
        ({"images": IMAGES}, "holds images: name its arrays"),
        ({"x_train": IMAGES, "y_test": LABELS}, "name its arrays"),
        ({"images": IMAGES / 255, "labels": LABELS}, "images is float64: store pixels as uint8"),
        ({"images": IMAGES.transpose(0, 3, 1, 2), "labels": LABELS}, "channels last"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "has shape"),
        ({"images": IMAGES, "labels": LABELS[:3]}, r"labels is int64 of shape \(3,\) for 4"),
        ({"images": IMAGES, "labels": LABELS / 2}, "store one integer class number"),
        ({"images": IMAGES, "labels": LABELS - 1}, "labels go from -1 to 0: use 0 to 0"),
        ({"images": IMAGES, "labels": LABELS * 2, "classes": ["a", "b"]}, "0 to 1 for its 2"),
        ({"images": IMAGES, "labels": LABELS * 0}, "only one class"),
        (
            {"images": IMAGES, "labels": LABELS * 1_000_000_009},
            "labels go up to 1000000009 and there are 4 images: store the names as `classes`",
        ),
        ({"images": IMAGES, "labels": LABELS, "classes": ["a", "a"]}, "'a' is that of two classes"),
        ({"images": np.array([{}, {}]), "labels": LABELS}, "not a whole .npz file of plain arrays"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, arrays, message):
    with pytest.raises(EdgecifarError, match=message) as caught:
        read_npz(written(tmp_path, **arrays))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 20, 0.5, 0.97])
def test_truncated(tmp_path, keep):
    path = written(tmp_path, images=IMAGES, labels=LABELS)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(EdgecifarError, match=r"set\.npz is not a whole \.npz file"):
        read_npz(path)


def test_flipped_byte(tmp_path):
    path = written(tmp_path, images=IMAGES, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[80] ^= 255  # in the compressed images
    path.write_bytes(content)
    with pytest.raises(EdgecifarError, match="not a whole"):
        read_npz(path)


def test_missing(tmp_path):
    with pytest.raises(EdgecifarError, match=r"none\.npz does not exist"):
        read_npz(tmp_path / "none.npz")


def test_what_is_no_archive_of_arrays_is_one_line(tmp_path):
    path = tmp_path / "set.npz"
    np.save(path.with_suffix(".npy"), IMAGES)
    path.with_suffix(".npy").rename(path)  # an array under the name of an archive
    with pytest.raises(EdgecifarError, match=r"not a whole \.npz file of plain arrays"):
        read_npz(path)
    names = {"images": IMAGES, "labels": LABELS, "classes": np.array("cat")}
    with pytest.raises(EdgecifarError, match="labels go from 0 to 1: use 0 to 0"):
        read_npz(written(tmp_path, **names))


@pytest.mark.parametrize("seed", range(4))
def test_any_damage_gives_arrays_or_one_line(tmp_path, seed):
    path = written(tmp_path, images=IMAGES, labels=LABELS, classes=["cat", "dog"])
    whole, random = path.read_bytes(), np.random.default_rng(seed)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_npz(path)
        except EdgecifarError:
            refused += 1
    assert refused > 100  # or the damage was none


def test_classes_are_counted_from_0(tmp_path):
    with pytest.raises(EdgecifarError, match="labels go from 1 to 2: count classes from 0"):
        read_npz(written(tmp_path, images=IMAGES, labels=LABELS + 1))


def test_a_split_s_name_may_be_written_large(tmp_path):
    assert read_npz(written(tmp_path, images=IMAGES, labels=LABELS, split="Test")).packed


def test_validation_images_under_both_names(tmp_path):
    arrays = {f"x_{name}": np.zeros((2, 4, 4, 3), np.uint8) for name in ("train", "val", "valid")}
    arrays |= {f"y_{name}": np.arange(2) for name in ("train", "val", "valid")}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(EdgecifarError, match="both x_val and x_valid: leave one there"):
        read_npz(tmp_path / "set.npz")
