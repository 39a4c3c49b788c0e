import os
import zipfile
from pathlib import Path

import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.folders import Entry, EntryReader, class_names, require_usable, scan
from edgecifar.runtime.images import ImageError

ONE_SET = ("cat/1.png", "cat/2.jpg", "dog/1.PNG")
PARTS = ("train/cat/1.png", "train/dog/1.png", "test/cat/2.png", "test/dog/2.png")


def folder(root, names):
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def archive(path, names, packed=zipfile.ZIP_STORED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", packed) as file:
        for name in names:
            file.writestr(name, name)
    return path


def labels(parts):
    return {part: [entry.label for entry in entries] for part, entries in parts.items()}


@pytest.fixture(params=["folder", "zip"])
def make(request, tmp_path):
    """Give images by their names, in a folder and in a zip."""
    if request.param == "folder":
        return lambda names: folder(tmp_path / "set", names)
    return lambda names: archive(tmp_path / "set.zip", names)


@pytest.mark.parametrize("wrapper", ["", "data/", "a/b/"])
def test_one_set(make, wrapper):
    found = scan(make([wrapper + name for name in (*ONE_SET, "cat/note.txt", "cat/.x.png")]))
    assert labels(found) == {"all": ["cat", "cat", "dog"]}
    assert class_names(found, "x") == ("cat", "dog")


@pytest.mark.parametrize("wrapper", ["", "data/"])
def test_parts(make, wrapper):
    found = scan(make([wrapper + name for name in (*PARTS, "Val/cat/3.png", "Val/dog/3.png")]))
    assert labels(found) == {part: ["cat", "dog"] for part in ("train", "validation", "test")}


def test_images_below_a_class_folder_belong_to_it(make):
    assert labels(scan(make(("cat/a/1.png", "cat/2.png", "dog/1.png"))))["all"].count("cat") == 2


def test_a_class_folder_that_is_empty(tmp_path):
    root = folder(tmp_path / "set", ONE_SET)
    (root / "eel").mkdir()
    with pytest.raises(EdgecifarError, match="the class folder eel of "):
        scan(root)
    with zipfile.ZipFile(archive(tmp_path / "set.zip", ONE_SET), "a") as file:
        file.writestr("eel/", "")
    with pytest.raises(EdgecifarError, match="the class folder eel of "):
        scan(tmp_path / "set.zip")


def test_hidden_folders_and_those_of_systems_are_left_out(make):
    """Notebooks leave copies of images in the first, network disks small ones in the second."""
    extra = ("cat/.ipynb_checkpoints/1.png", ".thumbs/1.png", "__MACOSX/cat/1.png", "__MACOSX/1.x",
             "@eaDir/1.jpg", "cat/@eaDir/1.jpg", "lost+found/x")  # fmt: skip
    assert labels(scan(make((*ONE_SET, *extra)))) == {"all": ["cat", "cat", "dog"]}


def test_what_holds_no_images_beside_parts_is_no_class(make):
    found = scan(make((*PARTS, "labels/cat.txt", "train/notes.txt")))
    assert labels(found) == {part: ["cat", "dog"] for part in ("train", "test")}


def test_pipes_are_no_images(tmp_path):
    """Reading one would wait for ever for what nobody writes."""
    root = folder(tmp_path / "set", ONE_SET)
    os.mkfifo(root / "dog" / "2.png")
    assert labels(scan(root)) == {"all": ["cat", "cat", "dog"]}


def test_a_class_may_be_called_train(make):
    found = scan(make(("train/1.png", "plane/1.png", "car/1.png")))
    assert class_names(found, "x") == ("car", "plane", "train")


@pytest.mark.parametrize("extra", ["demo/x/1.png", "figures/1.png"])
def test_what_lies_beside_parts_makes_no_classes_of_them(make, extra):
    parts = [name.replace("test/", "val/") for name in PARTS]
    assert class_names(scan(make(parts)), "x") == ("cat", "dog")
    with pytest.raises(EdgecifarError, match="lies outside of train and val: move or remove it"):
        scan(make([*parts, extra]))


def test_images_of_any_ending_count(make):
    """Else a class of photos from a phone would be gone."""
    names = ("cat/1.jfif", "cat/2.HEIC", "dog/1.avif", "dog/2.dng", "dog/3.xml")
    assert labels(scan(make(names))) == {"all": ["cat", "cat", "dog", "dog"]}


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        (["red", "blue "], "'blue ' is empty, or has line breaks or outer spaces"),
        (["red", "blue\n"], "is empty, or has"),
        (["red", "a\nb"], "is empty, or has"),
        (["red", ""], "'' is empty"),
        (["red", "x", "x"], "'x' is that of two classes"),
        (["red", "caf\udce9"], "isn't text in UTF-8"),
    ],
)
def test_class_names_that_no_model_could_hold(classes, problem):
    with pytest.raises(EdgecifarError) as caught:
        require_usable(classes, Path("d.npz"))
    assert str(caught.value).startswith("d.npz: the class name ")
    assert problem in str(caught.value)
    require_usable(["red", "dark blue", "größer"], Path("d.npz"))


def test_a_class_folder_s_name_is_looked_at(make):
    with pytest.raises(EdgecifarError, match=r"the class name 'dog ' .*: rename the class"):
        class_names(scan(make(("cat/1.png", "dog /1.png"))), "x")


@pytest.mark.parametrize("names", [("learn", "probe"), ("seg_train", "seg_test"), ("dev", "train")])
def test_parts_of_unknown_names_are_no_classes(make, names):
    """Else a network would learn to tell training images from test images."""
    files = [f"{part}/{name}/1.png" for part in names for name in ("cat", "dog")]
    with pytest.raises(EdgecifarError, match=r"hold the same folders \(cat and dog\): if"):
        scan(make(files))
    assert labels(scan(make([*files, f"{names[0]}/eel/1.png"])))  # folders that differ are groups


def test_parts_that_lie_in_themselves_are_no_classes(make):
    """As archives of them unpack."""
    files = [f"{p}/{p}/{name}/1.png" for p in ("seg_train", "seg_test") for name in ("cat", "dog")]
    with pytest.raises(EdgecifarError, match=r"seg_test and seg_train of .* hold the same folders"):
        scan(make(files))


def test_classes_with_the_same_folders_below_them_lie_in_train(make):
    files = [f"train/{name}/{time}/1.png" for name in ("cat", "dog") for time in ("day", "night")]
    assert labels(scan(make(files))) == {"train": ["cat", "cat", "dog", "dog"]}


def test_parts_as_competitions_call_them(make):
    found = scan(make([name.replace("/", "_set/", 1) for name in PARTS]))
    assert labels(found) == {part: ["cat", "dog"] for part in ("train", "test")}


def test_an_archive_beside_class_folders_is_not_taken_for_them(tmp_path):
    """They were unpacked from it and changed since, most likely."""
    archive(tmp_path / "train.zip", ONE_SET)
    (tmp_path / "figure.png").touch()
    assert labels(scan(tmp_path)) == {"train": ["cat", "cat", "dog"]}
    folder(tmp_path, ("cat/1.png", "dog/2.png", "eel/3.png"))
    with pytest.raises(EdgecifarError, match=r"holds train\.zip, and images in cat: move one"):
        scan(tmp_path)


@pytest.mark.parametrize("inner", ["", "train/", "stuff/"])
def test_folder_of_part_archives(tmp_path, inner):
    archive(tmp_path / "train.zip", [inner + name for name in ONE_SET])
    archive(tmp_path / "test.zip", ONE_SET)
    assert labels(scan(tmp_path)) == {
        "train": ["cat", "cat", "dog"],
        "test": ["cat", "cat", "dog"],
    }


def test_two_archives_of_one_part_are_refused(tmp_path):
    archive(tmp_path / "train.zip", ONE_SET)
    archive(tmp_path / "training.zip", ONE_SET)
    with pytest.raises(EdgecifarError, match=r"train images twice, as train\.zip and as training"):
        scan(tmp_path)


def test_part_archive_with_both_parts(tmp_path):
    archive(tmp_path / "train.zip", PARTS)
    with pytest.raises(EdgecifarError, match=r"train\.zip holds test and train: give that file"):
        scan(tmp_path)


def test_reader_gives_the_bytes(make):
    entries = scan(make(ONE_SET))["all"]
    with EntryReader() as reader:
        reader.open_zips(entries)
        assert [reader.read(entry).decode()[-9:] for entry in entries] == list(ONE_SET)


def test_reader_names_an_altered_member(tmp_path):
    path = archive(tmp_path / "set.zip", ONE_SET)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"cat/2.jpgcat/2.jpg") + 9] ^= 1  # inside the member's content
    path.write_bytes(damaged)
    entries = scan(path)["all"]
    with EntryReader() as reader:
        reader.open_zips(entries)
        with pytest.raises(ImageError, match=r"set\.zip: cat/2\.jpg is truncated or damaged"):
            reader.read(entries[1])


@pytest.mark.parametrize("packed", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_reader_names_a_member_that_can_t_be_unpacked(tmp_path, packed):
    path = archive(tmp_path / "set.zip", ONE_SET, packed)
    first = scan(path)["all"][0]
    with zipfile.ZipFile(path) as file:
        start = file.getinfo(first.member).header_offset + 30 + len(first.member)
    damaged = bytearray(path.read_bytes())
    damaged[start : start + 12] = b"\xff" * 12
    path.write_bytes(damaged)
    with EntryReader() as reader:
        reader.open_zips([first])
        with pytest.raises(ImageError, match=r"set\.zip: cat/1\.png is truncated or damaged"):
            reader.read(first)


def test_reader_names_a_file_that_has_gone(tmp_path):
    with EntryReader() as reader, pytest.raises(ImageError, match=r"gone\.png is truncated"):
        reader.read(Entry("cat", "gone.png", tmp_path / "gone.png"))


def test_number_classes_stand_in_numerical_order(make):
    found = scan(make([f"{number}/1.png" for number in (10, 2, 1)]))
    assert class_names(found, "x") == ("1", "2", "10")


def test_links_are_followed_and_loops_end(tmp_path):
    folder(tmp_path / "real", ONE_SET)
    os.symlink(tmp_path / "real", tmp_path / "real" / "dog" / "loop")
    os.symlink(tmp_path / "real", tmp_path / "link")
    assert len(scan(tmp_path / "link")["all"]) == 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no images in .*: give a folder or zip with"),
        (("readme.txt",), "no images in "),
        (("1.png", "cat/1.png"), r"1\.png lies in no class folder: put"),
        ((*PARTS, "extra/dog/9.png"), r"9\.png lies outside of test and train: move"),
        (("train/cat/1.png", "test/cat/1.png", "train/2.png", "test/3.png"), "lies in no class"),
        ((*ONE_SET, "eel/a/1.npy"), "the class folder eel of .* has no images: put some into it"),
        (("a/cat/1.png", "a/eel/1.npy"), "the class folder eel of .* has no images"),
        ((*PARTS, "test/eel/1.npy"), "the class folder test/eel of .* has no images"),
    ],
)
def test_what_is_wrong_with_a_set(make, names, message):
    with pytest.raises(EdgecifarError, match=message) as caught:
        class_names(scan(make(names)), "x")
    assert "\n" not in str(caught.value)


def test_one_class_only(make):
    with pytest.raises(EdgecifarError, match=r"has only one class \(cat\): "):
        class_names(scan(make(("cat/1.png", "cat/2.png"))), "x")


@pytest.mark.parametrize(("extra", "lacking"), [("train", "test"), ("test", "train")])
def test_parts_with_different_classes(make, extra, lacking):
    found = scan(make((*PARTS, f"{extra}/eel/1.png")))
    with pytest.raises(EdgecifarError, match=f"class eel is in {extra} and not in {lacking} of x"):
        class_names(found, "x")


def test_missing_path(tmp_path):
    with pytest.raises(EdgecifarError, match=r"nowhere does not exist: check"):
        scan(tmp_path / "nowhere")


def test_a_folder_that_holds_an_archive_says_so(tmp_path):
    archive(tmp_path / "pets.zip", ONE_SET)
    with pytest.raises(EdgecifarError, match=r"it holds pets\.zip; give the path of that file"):
        scan(tmp_path)


@pytest.mark.parametrize(
    "name", ["/etc/cat/1.png", "../cat/1.png", "cat/../../1.png", "C:/a/1.png"]
)
def test_paths_out_of_an_archive(tmp_path, name):
    path = archive(tmp_path / "evil.zip", (*ONE_SET, name))
    with pytest.raises(EdgecifarError, match=r"evil\.zip has a path that leads out"):
        scan(path)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_truncated_archive(tmp_path, keep):
    path = archive(tmp_path / "cut.zip", ONE_SET)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(EdgecifarError, match=r"cut\.zip is not a whole zip archive .*: copy or"):
        scan(path)


def test_encrypted_archive(tmp_path):
    path = archive(tmp_path / "secret.zip", ONE_SET)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the first directory entry
    path.write_bytes(content)
    with pytest.raises(EdgecifarError, match=r"secret\.zip is encrypted: unpack it"):
        scan(path)


def test_member_that_unpacks_to_far_too_much(tmp_path):
    path = archive(tmp_path / "bomb.zip", ONE_SET)
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02") + 24  # uncompressed size in the first directory entry
    content[start : start + 4] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(EdgecifarError, match=r"cat/1\.png unpacks to 3072 MiB"):
        scan(path)


def test_members_that_python_cannot_unpack_are_one_line(tmp_path):
    path = archive(tmp_path / "set.zip", ["cat/1.png", "dog/1.png"])
    whole = path.read_bytes()
    method = bytearray(whole)
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = 0
        while (start := whole.find(signature, start)) >= 0:
            method[start + place] = 9  # Deflate64
            start += 4
    path.write_bytes(method)
    entry = scan(path)["all"][0]
    with EntryReader() as reader:
        reader.open_zips([entry])
        with pytest.raises(ImageError, match="truncated or damaged"):
            reader.read(entry)


def test_a_member_that_is_the_folder_itself(tmp_path):
    path = archive(tmp_path / "set.zip", [".", "cat/1.png", "dog/1.png"])
    assert labels(scan(path)) == {"all": ["cat", "dog"]}


@pytest.mark.parametrize("place", ["runs/net", "runs/recipe/net", "net", "cat/runs/net", "out/net"])
def test_runs_beside_the_classes_are_none(tmp_path, place):
    """Commands that are called among one's photos leave them there."""
    among = folder(tmp_path / "set", [*ONE_SET, f"{place}/plots/curve.png"])
    (among / place / "run.json").write_text('{"architecture": "nano"}')
    assert labels(scan(among)) == {"all": ["cat", "cat", "dog"]}


def test_runs_in_a_part_leave_the_part(tmp_path):
    names = [f"{part}/{name}" for part in ("train", "test") for name in ONE_SET]
    among = folder(tmp_path / "set", [*names, "test/runs/net/curve.png"])
    (among / "test/runs/net/run.json").write_text('{"architecture": "nano"}')
    assert labels(scan(among)) == {part: ["cat", "cat", "dog"] for part in ("test", "train")}


def test_what_somebody_else_calls_a_run_is_a_class(tmp_path):
    among = folder(tmp_path / "set", [*ONE_SET, "runs/net/curve.png"])
    (among / "runs/net/run.json").write_text("{}")
    assert labels(scan(among)) == {"all": ["cat", "cat", "dog", "runs"]}
