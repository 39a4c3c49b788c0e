import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.splits import assign, digest_all, fingerprint

CLASSES = ("a", "b", "c")
RANDOM = np.random.default_rng(3)
IMAGES = RANDOM.integers(0, 256, (600, 4, 4, 3), np.uint8)
LABELS = np.repeat([0, 1, 2], [300, 200, 100])
DIGESTS = digest_all(IMAGES)


def test_digests_tell_pixels_and_shapes_apart():
    assert len({found.tobytes() for found in DIGESTS}) == 600
    assert not np.array_equal(digest_all(IMAGES.reshape(600, 2, 8, 3)), DIGESTS)


def test_one_set_is_cut_by_class():
    plan = assign({"all": (LABELS, DIGESTS)}, CLASSES)
    counts = {split: np.bincount(LABELS[rows]).tolist() for split, (_, rows) in plan.items()}
    assert counts == {"train": [210, 140, 70], "validation": [30, 20, 10], "test": [60, 40, 20]}
    rows = np.concatenate([rows for _, rows in plan.values()])
    assert sorted(rows) == list(range(600))


def test_given_parts_stay_whole():
    parts = {"train": (LABELS, DIGESTS), "test": (LABELS[:9], DIGESTS[:9])}
    plan = assign(parts, CLASSES)
    assert plan["test"][0] == "test"
    assert sorted(plan["test"][1]) == list(range(9))
    assert len(plan["validation"][1]) == 60
    assert len(plan["train"][1]) == 540
    parts["validation"] = (LABELS[9:15], DIGESTS[9:15])
    plan = assign(parts, CLASSES)
    assert [len(plan[split][1]) for split in ("train", "validation", "test")] == [600, 6, 9]


def test_splits_do_not_depend_on_the_order_of_files():
    shuffle = RANDOM.permutation(600)
    first = assign({"all": (LABELS, DIGESTS)}, CLASSES)
    second = assign({"all": (LABELS[shuffle], DIGESTS[shuffle])}, CLASSES)
    for split in first:
        assert np.array_equal(IMAGES[first[split][1]], IMAGES[shuffle][second[split][1]])


def test_stored_order_mixes_classes():
    plan = assign({"all": (LABELS, DIGESTS)}, CLASSES)
    for _, rows in plan.values():
        halves = np.array_split(LABELS[rows], 2)
        assert all(set(half) == {0, 1, 2} for half in halves)
        assert (np.diff(LABELS[rows]) != 0).mean() > 0.4


def test_fingerprint_ignores_order_only():
    shuffle = RANDOM.permutation(600)
    base = fingerprint(CLASSES, {"test": (LABELS, DIGESTS)})
    assert base == fingerprint(CLASSES, {"test": (LABELS[shuffle], DIGESTS[shuffle])})
    others = [
        fingerprint(("a", "b", "d"), {"test": (LABELS, DIGESTS)}),
        fingerprint(CLASSES, {"train": (LABELS, DIGESTS)}),
        fingerprint(CLASSES, {"test": (LABELS[shuffle], DIGESTS)}),
        fingerprint(CLASSES, {"test": (LABELS[1:], DIGESTS[1:])}),
        fingerprint(CLASSES, {"test": (LABELS, DIGESTS)}, (8, 8)),
    ]
    assert len({base, *others}) == 6


def test_class_too_small_to_divide():
    labels = np.array([0, 0, 0, 0, 1, 1])
    with pytest.raises(
        EdgecifarError, match=r"class b has too few different training images \(2\)"
    ):
        assign({"all": (labels, DIGESTS[:6])}, CLASSES[:2])


def test_smallest_class_that_can_be_divided():
    labels = np.array([0, 0, 0, 1, 1, 1])
    plan = assign({"all": (labels, DIGESTS[:6])}, CLASSES[:2])
    assert [len(rows) for _, rows in plan.values()] == [2, 2, 2]


def test_copies_stay_together():
    """Each image is there twice or thrice: some would lie on either side of a cut by rank."""
    rows = np.repeat(np.arange(600), np.arange(600) % 2 + 2)
    plan = assign({"all": (LABELS[rows], DIGESTS[rows])}, CLASSES)
    found = [set(rows[indices]) for _, indices in plan.values()]
    assert sum(map(len, found)) == 600
    sizes = [len(indices) for _, indices in plan.values()]
    assert sum(sizes) == len(rows)
    assert sizes == pytest.approx([1050, 150, 300], abs=6)


def test_a_class_of_copies_can_t_be_divided():
    labels, digests = np.array([0, 0, 0, 1, 1, 1]), DIGESTS[[0, 1, 2, 3, 4, 4]]
    with pytest.raises(EdgecifarError, match=r"class b has too few different .* \(2\) to set some"):
        assign({"all": (labels, digests)}, CLASSES[:2])


def test_nothing_to_train_on():
    with pytest.raises(EdgecifarError, match="only test images, none to train on: add a train"):
        assign({"test": (LABELS, DIGESTS)}, CLASSES)
