"""Pictures as they come: from a camera, from a folder that stands for one, or dropped into one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgecifar.runtime.backends import CAMERAS, ComplaintError
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.images import find_images, is_image_name

_SIZE = (640, 480)  # width and height; models take far less
_POLL_SECONDS = 0.5
_OLD_SECONDS = 0.2  # after which a frame that waits in a buffer is one of the past
_EQUAL_LOOKS = 4  # after the first

Picture = tuple[str, "np.ndarray | Path"]


def camera(number: int = 0, *, interval: float = 1.0) -> Iterator[Picture]:
    """Yield frames, uint8 RGB, of camera ``number``, one every ``interval`` seconds.

    picamera2 reads the Raspberry Pi's own camera, OpenCV any other.

    Raises:
        EdgecifarError: neither is installed, or there is no such camera.

    """
    capture, close = _open(number)
    try:
        yield from _frames(capture, interval)
    finally:
        close()


def fake_camera(folder: Path, *, interval: float = 0.0) -> Iterator[Picture]:
    """Yield the images in a folder, once, as a camera would its frames."""
    paths = find_images([folder])
    yield from _frames(lambda: next(paths, None), interval)  # a damaged one ends no run


def watch(folder: Path, *, poll: float = _POLL_SECONDS) -> Iterator[Picture]:
    """Yield images that appear in a folder from this call on, or change, once they are whole.

    A file counts as whole when five looks, one every ``poll`` seconds, have found it the same: a
    copy over a network halts at times.

    Raises:
        EdgecifarError: it is no folder, or no longer one.

    """
    return _appearing(folder, _look(folder), poll)


def _appearing(folder: Path, known: dict[str, tuple[int, int]], poll: float) -> Iterator[Picture]:
    fresh: dict[str, tuple[tuple[int, int], int]] = {}  # with how many looks found it so
    while True:
        time.sleep(poll)
        now = _look(folder)
        for name, state in sorted(now.items()):
            if known.get(name) == state:
                continue
            last, looks = fresh.get(name, (state, 0))
            fresh[name] = state, looks + 1 if last == state else 1
            if fresh[name][1] > _EQUAL_LOOKS and state[0]:
                known[name] = state
                yield str(folder / name), folder / name
        known = {name: state for name, state in known.items() if name in now}
        fresh = {name: found for name, found in fresh.items() if name in now}


def _look(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change in ns of each image in a folder."""
    found = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_image_name(entry.name):
                    continue
                try:
                    status = entry.stat() if entry.is_file() else None
                except OSError:  # it went between listing and looking, or links to itself
                    continue
                if status:
                    found[entry.name] = status.st_size, status.st_mtime_ns
    except FileNotFoundError:
        raise EdgecifarError(f"{folder}: no such folder: give one that exists") from None
    except OSError as error:
        raise EdgecifarError(f"{folder}: {error.strerror}: give a folder to watch") from error
    return found


def _frames(capture: Callable[[], np.ndarray | Path | None], interval: float) -> Iterator[Picture]:
    number, due = 0, time.monotonic()
    while (frame := capture()) is not None:
        number += 1
        yield f"frame {number}", frame
        due = max(due + interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _open(number: int) -> tuple[Callable[[], np.ndarray | None], Callable[[], Any]]:
    """Open the camera with the first library that sees it, or say what the first has to say."""
    complaints = []
    for opener in (_picamera2, _opencv):
        try:
            return opener(number)
        except ModuleNotFoundError:
            continue
        except EdgecifarError as error:
            complaints.append(error)
    if complaints:
        raise complaints[0]
    # OpenCV's newest wheels want NumPy 2, with which picamera2 and tflite-runtime fail.
    numpy = ' "numpy<2"' if np.__version__.startswith("1.") else ""
    raise EdgecifarError(
        "no camera library: `apt install python3-picamera2` on a Raspberry Pi, else "
        f"`pip install opencv-python-headless{numpy}`"
    )


def _load(name: str) -> Any:
    """Import a library; ModuleNotFoundError if it isn't there, EdgecifarError if it is broken."""
    try:
        return CAMERAS[name].load_or_complain()
    except ComplaintError as error:
        if error.missing == name:
            raise ModuleNotFoundError(str(error), name=name) from error
        from edgecifar.runtime.ailments import describe_machine, explain

        reason, mend = explain(CAMERAS[name], str(error), describe_machine())
        raise EdgecifarError(f"{name} doesn't work here ({reason}): {mend}") from error


def _picamera2(number: int) -> tuple[Callable[[], np.ndarray], Callable[[], Any]]:
    library, device = _load("picamera2"), None
    try:
        device = library.Picamera2(number)
        # Its names are those of little-endian words: BGR888 has red in the first byte.
        device.configure(device.create_video_configuration({"size": _SIZE, "format": "BGR888"}))
        device.start()
    except Exception as error:  # RuntimeError, IndexError and what else libcamera's bindings raise
        if device:  # OpenCV may have more luck, unless it is held
            device.close()
        raise EdgecifarError(
            f"camera {number} can't be opened ({error}): check its cable"
        ) from error

    def close() -> None:
        device.stop()
        device.close()

    return device.capture_array, close


def _opencv(number: int) -> tuple[Callable[[], np.ndarray | None], Callable[[], Any]]:
    cv2 = _load("cv2")
    device = cv2.VideoCapture(number)
    if not device.isOpened():
        raise EdgecifarError(f"camera {number} can't be opened: is it connected, and free?")

    device.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    taken = time.monotonic()

    def capture() -> np.ndarray:
        nonlocal taken
        if time.monotonic() - taken > _OLD_SECONDS:
            device.grab()  # what the buffer has held since the frame before
        works, frame = device.read()
        taken = time.monotonic()
        if not works:
            raise EdgecifarError(f"camera {number} gives no more frames: is it connected?")
        return np.ascontiguousarray(frame[..., ::-1])  # OpenCV's are BGR

    return capture, device.release
