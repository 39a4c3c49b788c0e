import itertools
import os
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edgecifar.runtime import cameras
from edgecifar.runtime.errors import EdgecifarError

FRAME = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


class OpenCv:
    """What of cv2 is used: frames are BGR."""

    CAP_PROP_BUFFERSIZE = 38

    def __init__(self, frames, opened=True):
        self.frames, self.opened, self.released = frames, opened, False
        self.grabbed = 0

    def VideoCapture(self, number):  # noqa: N802 (cv2's name)
        self.number = number
        return self

    def isOpened(self):  # noqa: N802
        return self.opened

    def set(self, key, value):
        self.kept = {key: value}

    def grab(self):
        self.grabbed += 1
        return True

    def read(self):
        self.frames -= 1
        return self.frames >= 0, FRAME[..., ::-1]

    def release(self):
        self.released = True


@pytest.fixture
def opencv(monkeypatch):
    def install(**options):
        module = OpenCv(**options)
        monkeypatch.setitem(sys.modules, "picamera2", None)
        monkeypatch.setitem(sys.modules, "cv2", module)
        return module

    return install


def test_a_frame_that_waited_in_the_buffer_is_left_out(opencv, monkeypatch):
    module = opencv(frames=3)
    pictures = cameras.camera(1, interval=0)
    next(pictures)
    next(pictures)  # at once: a camera gives no more than it can
    assert module.grabbed == 0
    monkeypatch.setattr(cameras, "_OLD_SECONDS", -1.0)
    next(pictures)
    assert module.grabbed == 1
    pictures.close()


def test_frames_of_opencv_are_rgb(opencv):
    module = opencv(frames=2)
    pictures = cameras.camera(1, interval=0)
    name, frame = next(pictures)
    assert name == "frame 1"
    assert np.array_equal(frame, FRAME)
    pictures.close()
    assert module.number == 1
    assert module.kept == {module.CAP_PROP_BUFFERSIZE: 1}
    assert module.grabbed == 0
    assert module.released


def test_a_camera_that_stops_or_is_missing(opencv):
    opencv(frames=1)
    with pytest.raises(EdgecifarError, match="no more frames"):
        list(cameras.camera(interval=0))
    opencv(frames=1, opened=False)
    with pytest.raises(EdgecifarError, match="can't be opened"):
        next(cameras.camera())


def test_opencv_sees_what_picamera2_does_not(opencv, monkeypatch):
    def no_camera(number):
        raise IndexError("list index out of range")

    module = opencv(frames=1)
    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=no_camera))
    assert np.array_equal(next(cameras.camera())[1], FRAME)
    module.opened = False
    with pytest.raises(EdgecifarError, match=r"\(list index out of range\): check its cable"):
        next(cameras.camera())


def test_a_library_built_for_another_numpy_gives_way(opencv, monkeypatch, tmp_path):
    opencv(frames=1)
    monkeypatch.delitem(sys.modules, "picamera2")
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert np.array_equal(next(cameras.camera())[1], FRAME)
    monkeypatch.setitem(sys.modules, "cv2", None)
    for version, built, mend in (("2.1.0", 1, "<2"), ("1.26.4", 2, ">=2")):
        monkeypatch.setattr(
            "edgecifar.runtime.environment.versions", lambda v=version: {"numpy": v}
        )
        with pytest.raises(EdgecifarError) as caught:
            next(cameras.camera())
        assert str(caught.value) == (
            f"picamera2 doesn't work here (it was built for NumPy {built}, and this is {version}): "
            f"`pip install 'numpy{mend}'`"
        )


def test_what_numpy_says_aside_is_heard(opencv, monkeypatch, tmp_path, capfd):
    """Of modules built for NumPy 1, such as Debian 12's cv2, whose error says less."""
    opencv(frames=1)
    monkeypatch.delitem(sys.modules, "cv2")
    (tmp_path / "cv2.py").write_text(
        "import sys; sys.stderr.write('A module that was compiled using NumPy 1.x cannot be run')\n"
        "raise ImportError('broken')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("edgecifar.runtime.environment.versions", lambda: {"numpy": "2.1.0"})
    with pytest.raises(EdgecifarError, match=r"cv2 doesn't work here .*`pip install 'numpy<2'`"):
        next(cameras.camera())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("module", "mend"),
    [
        ("import libcamera", "--system-site-packages"),
        ("raise OSError('odd')", "apt install --reinstall python3-picamera2"),
    ],
)
def test_a_picamera2_that_apt_has_to_mend(opencv, monkeypatch, tmp_path, module, mend):
    opencv(frames=1)
    monkeypatch.delitem(sys.modules, "picamera2")
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "picamera2.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EdgecifarError, match=mend):
        next(cameras.camera())


def test_a_camera_that_does_not_start_is_let_go(opencv, monkeypatch):
    closed = []

    class Picamera2:
        def __init__(self, number):
            pass

        def create_video_configuration(self, main):
            return main

        def configure(self, configuration):
            raise RuntimeError("busy")

        def close(self):
            closed.append(self)

    opencv(frames=1)
    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=Picamera2))
    assert np.array_equal(next(cameras.camera())[1], FRAME)
    assert len(closed) == 1


def test_picamera2_is_asked_for_rgb(monkeypatch):
    asked = {}

    class Picamera2:
        def __init__(self, number):
            asked["number"] = number

        def create_video_configuration(self, main):
            asked.update(main)

        def configure(self, configuration):
            pass

        start = stop = close = lambda self: None

        def capture_array(self):
            return FRAME

    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=Picamera2))
    _, frame = next(cameras.camera())
    assert frame is FRAME
    assert asked == {"number": 0, "size": (640, 480), "format": "BGR888"}  # red comes first


def test_the_interval_is_kept(opencv):
    opencv(frames=9)
    start = time.monotonic()
    list(itertools.islice(cameras.camera(interval=0.05), 4))
    assert time.monotonic() - start >= 0.15


def test_an_interval_that_passes_between_two_looks_at_the_clock_ends_nothing(opencv, monkeypatch):
    opencv(frames=9)
    clock = itertools.count(0, 0.4)  # every look costs 0.4 s
    monkeypatch.setattr(cameras.time, "monotonic", lambda: next(clock))
    waited = []
    monkeypatch.setattr(cameras.time, "sleep", waited.append)
    assert len(list(itertools.islice(cameras.camera(interval=0.5), 6))) == 6
    assert min(waited) >= 0


def test_a_watched_folder_gives_whole_new_images_once(tmp_path, images, monkeypatch):
    Image.fromarray(images[0]).save(tmp_path / "old.png")
    whole = (tmp_path / "old.png").read_bytes()

    def grow():
        with (tmp_path / "slow.png").open("ab") as stream:
            stream.write(whole[:200])

    def nothing():
        pass

    def write_anew():
        Image.fromarray(images[1]).save(tmp_path / "old.png")
        os.utime(tmp_path / "old.png", ns=(0, 0))  # another time for sure, whatever the clock does

    def write_others():
        (tmp_path / "notes.txt").write_text("no image")
        Image.fromarray(images[2]).save(tmp_path / "last.png")

    # What happens between one look and the next.
    halt = [nothing] * 3  # as a copy over a network may: what is whole stands for a look longer
    still = [*halt, nothing]
    steps = iter([grow, *halt, grow, grow, *still, write_anew, *still, write_others, *still])
    monkeypatch.setattr(cameras.time, "sleep", lambda seconds: next(steps)())
    found = list(itertools.islice(cameras.watch(tmp_path), 3))
    assert [path.name for _, path in found] == ["slow.png", "old.png", "last.png"]
    assert next(steps, None) is None


def test_a_folder_is_watched_from_the_call_on(tmp_path, images, monkeypatch):
    """A model may be loaded between the call and the first picture."""
    looks = iter(range(9))  # and no more, so that what is missed doesn't hang
    monkeypatch.setattr(cameras.time, "sleep", lambda seconds: next(looks))
    Image.fromarray(images[0]).save(tmp_path / "old.png")
    pictures = cameras.watch(tmp_path)
    Image.fromarray(images[1]).save(tmp_path / "new.png")
    assert next(pictures)[1].name == "new.png"


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(EdgecifarError, match="no such folder"):
        cameras.watch(tmp_path / "none")


def test_a_link_to_itself_ends_no_watch(tmp_path, images, monkeypatch):
    (tmp_path / "loop.png").symlink_to("loop.png")
    found = cameras.watch(tmp_path, poll=0)
    Image.fromarray(images[0]).save(tmp_path / "new.png")
    assert next(found)[1].name == "new.png"


def test_a_damaged_frame_of_a_fake_camera_is_one_of_many(tmp_path, images):
    for name in ("1.png", "3.png"):
        Image.fromarray(images[0]).save(tmp_path / name)
    (tmp_path / "2.png").write_bytes(b"cut")
    assert [frame for frame, _ in cameras.fake_camera(tmp_path)] == [
        "frame 1",
        "frame 2",
        "frame 3",
    ]
