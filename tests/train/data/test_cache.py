import errno
import os
import tracemalloc

import numpy as np
import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.data import cache as cache_module
from edgecifar.train.data import load, sources


@pytest.fixture
def no_reading(monkeypatch):
    """Return a function after which nothing may be decoded any more."""

    def forbid():
        def refuse(*_, **__):
            raise AssertionError("decoded again")

        monkeypatch.setattr(sources, "decode", refuse)

    return forbid


def held(cache):
    """Every file and folder in the cache, hidden ones too."""
    return sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*"))


def test_second_time_comes_from_the_cache(containers, no_reading):
    first = load(containers["zips"])
    no_reading()
    second = load(containers["zips"])
    assert second.fingerprint == first.fingerprint
    assert isinstance(second.train.images, np.memmap)
    assert not second.train.images.flags.writeable
    assert second.train.images.base is not None


def test_containers_share_what_is_stored(containers, cache):
    load(containers["zips"])
    load(containers["python tar"])
    assert len(list((cache / "datasets").iterdir())) == 1
    assert len(list((cache / "index").iterdir())) == 2


def test_changed_files_are_read_again(helpers, sample, tmp_path):
    folder = helpers.images(tmp_path / "set", *sample.train)
    first = load(folder)
    (folder / "one" / "0001.png").unlink()
    assert load(folder).fingerprint != first.fingerprint


def test_changed_files_behind_links_are_read_again(helpers, sample, tmp_path):
    helpers.images(tmp_path / "real", *sample.train)
    (tmp_path / "set").mkdir()
    for folder in (tmp_path / "real").iterdir():
        (tmp_path / "set" / folder.name).symlink_to(folder)
    (tmp_path / "real" / "one" / "around").symlink_to(tmp_path / "real")  # without end
    first = load(tmp_path / "set")
    (tmp_path / "real" / "one" / "0001.png").unlink()
    assert load(tmp_path / "set").fingerprint != first.fingerprint


@pytest.mark.parametrize("sizes", [(40, 32), (32, 40), (28, 32)])
def test_parts_of_several_sizes_are_refused(tmp_path, sizes):
    """Each of one size: bytes of the larger would be read as images of the smaller."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in zip(("train", "test"), sizes, strict=True):
        arrays[f"x_{part}"] = rng.integers(0, 256, (40, size, size, 3), np.uint8)
        arrays[f"y_{part}"] = np.arange(40) % 2
    np.savez(tmp_path / "set.npz", **arrays)
    told = rf"train {sizes[0]}x{sizes[0]} and test {sizes[1]}x{sizes[1]}.*--image-size {min(sizes)}"
    with pytest.raises(EdgecifarError, match=f"mixed image sizes .{told}"):
        load(tmp_path / "set.npz")
    assert load(tmp_path / "set.npz", image_size=(32, 32)).test.images.shape == (40, 32, 32, 3)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "gone"])
def test_damaged_cache_is_built_again(containers, cache, name, damage):
    first = load(containers["zips"])
    expected = np.array(first.test.images)
    (file,) = cache.glob(f"datasets/*/{name}")
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "emptied" else file.read_bytes()[:-40])
    again = load(containers["zips"])
    assert again.fingerprint == first.fingerprint
    assert np.array_equal(again.test.images, expected)


def test_large_sets_are_decoded_on_disk(containers, cache, monkeypatch):
    expected = load(containers["zips"])
    pixels = np.array(expected.train.images)
    monkeypatch.setattr(cache_module, "_IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(cache_module, "_FORMAT", 99)
    again = load(containers["zips"])
    assert again.fingerprint == expected.fingerprint
    assert np.array_equal(again.train.images, pixels)
    assert not [name for name in held(cache) if ".building" in name]


@pytest.mark.parametrize("where", ["decoding", "writing"])
def test_full_disk_leaves_nothing(containers, cache, monkeypatch, where):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "decoding":
        monkeypatch.setattr(cache_module, "_IN_MEMORY_BYTES", 1000)
        monkeypatch.setattr(os, "posix_fallocate", full)
    else:
        monkeypatch.setattr(cache_module, "write_array", full)
    with pytest.raises(EdgecifarError, match=r"^no space left for .*: free some there, or set"):
        load(containers["zips"])
    assert held(cache) == ["datasets"]


def test_interruption_leaves_nothing(containers, cache, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "write_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(containers["zips"])
    assert held(cache) == ["datasets"]


def test_leftovers_of_a_killed_process_go_after_a_day(containers, cache):
    for name, age in ((".building-old", 2 * 86_400), (".building-new", 60)):
        left = cache / "datasets" / name
        left.mkdir(parents=True)
        (left / "part").write_bytes(b"x")
        changed = left.stat().st_mtime - age
        os.utime(left, (changed, changed))
    load(containers["zips"])
    assert not (cache / "datasets" / ".building-old").exists()
    assert (cache / "datasets" / ".building-new").exists()


def test_cache_that_cannot_be_written(containers, cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(EdgecifarError, match=r"can't write to .* or set EDGECIFAR_CACHE"):
        load(containers["zips"])


@pytest.mark.parametrize("own", [False, True])
def test_images_of_several_splits_are_told(helpers, sample, tmp_path, capsys, own):
    images, labels = sample.train
    helpers.images(tmp_path / "set/train", images, labels)
    helpers.images(tmp_path / "set/test", images[:30], labels[:30])
    told, copies = "30 of 30 test images are training or validation images too: figures", 0
    if own:
        helpers.images(tmp_path / "set/validation", images[30:50], labels[30:50])
        helpers.images(tmp_path / "set/validation/one", *(part[:5] for part in sample.test))
        told, copies = f"20 of 25 validation images are training images too and {told}", 20
    for _ in range(2):  # from the cache, too
        found = load(tmp_path / "set")
        assert found.copies == {"train": 0, "validation": copies, "test": 30}
        assert capsys.readouterr().err.startswith(told)


def test_photos_at_full_size_are_scaled_or_asked_for(helpers, sample, cache, tmp_path):
    images = np.kron(sample.train[0][:30], np.ones((1, 16, 17, 1), np.uint8))
    folder = helpers.images(tmp_path / "set", images, sample.train[1][:30])
    with pytest.raises(EdgecifarError, match=r"^images are 544x512: scale them with --image-size"):
        load(folder)
    assert held(cache) == ["datasets"]
    assert load(folder, image_size=(512, 544)).image_size == (512, 544)


def test_large_images_are_written_a_few_at_once(sample, tmp_path, monkeypatch):
    images = np.kron(sample.train[0][:40], np.ones((1, 8, 8, 1), np.uint8))
    np.savez(tmp_path / "set.npz", images=images, labels=sample.train[1][:40])
    monkeypatch.setattr(cache_module, "_BYTES_AT_ONCE", 3 * images[0].nbytes)
    write, most = cache_module._write_arrays, []

    def measured(*arguments):
        tracemalloc.start()
        write(*arguments)
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    monkeypatch.setattr(cache_module, "_write_arrays", measured)
    found = load(tmp_path / "set.npz")
    assert most[0] < 8 * images[0].nbytes
    stored = np.concatenate([split.images for split in found.splits.values()])
    assert sorted(map(bytes, stored)) == sorted(map(bytes, images))


def test_large_arrays_are_scaled_to_disk(sample, tmp_path, monkeypatch):
    path = tmp_path / "set.npz"
    np.savez(path, images=sample.train[0], labels=sample.train[1])
    taken = []
    allocator = cache_module._allocator

    def noting(work):
        return lambda shape: taken.append(shape) or allocator(work)(shape)

    monkeypatch.setattr(cache_module, "_allocator", noting)
    load(path, image_size=16)
    assert taken == [(len(sample.train[1]), 16, 16, 3)]


def test_a_cache_that_can_t_be_made_is_told_as_such(containers, monkeypatch):
    monkeypatch.setenv("EDGECIFAR_CACHE", "/proc/nope")
    with pytest.raises(EdgecifarError, match=r"can't write to /proc/nope .*set EDGECIFAR_CACHE"):
        load(containers["zips"])
