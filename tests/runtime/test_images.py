import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from edgecifar.runtime import images
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.images import MAX_PIXELS, ImageError, find_images, read_image, resize

COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 9, 9], [90, 90, 90], [0, 0, 0]]])
PIXELS = np.repeat(np.repeat(COLOURS.astype(np.uint8), 8, axis=0), 8, axis=1)  # 16x24
GREY = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (16, 1))


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width, height):
    """A PNG file that declares a size and has no pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_lossless_kinds_keep_pixels(kind):
    assert np.array_equal(read_image(encoded(Image.fromarray(PIXELS), kind)), PIXELS)


def test_lossless_webp_keeps_pixels():
    assert np.array_equal(
        read_image(encoded(Image.fromarray(PIXELS), "WEBP", lossless=True)), PIXELS
    )


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_jpeg_is_close(mode):
    smooth = np.stack([GREY, GREY[::-1], 255 - GREY], axis=2)
    image = Image.fromarray(smooth).convert(mode)
    found = read_image(encoded(image, "JPEG", quality=98))
    assert found.shape == smooth.shape
    assert np.abs(found.astype(int) - smooth).max() <= 12


def test_grey_becomes_three_equal_channels():
    found = read_image(encoded(Image.fromarray(GREY)))
    assert np.array_equal(found, np.stack([GREY] * 3, axis=2))


def test_one_bit():
    found = read_image(encoded(Image.fromarray(GREY).convert("1", dither=0)))
    assert found.shape == (16, 24, 3)
    assert set(np.unique(found)) == {0, 255}


def test_palette():
    assert np.array_equal(read_image(encoded(Image.fromarray(PIXELS).quantize(6))), PIXELS)


def test_sixteen_bits_keep_the_high_byte():
    wide = GREY.astype(np.uint16) * 257
    for kind in ("PNG", "TIFF"):
        found = read_image(encoded(Image.fromarray(wide), kind))
        assert np.array_equal(found[..., 0], GREY)


@pytest.mark.parametrize(("values", "scale"), [(GREY / 255, 255), (GREY / 1.0, 1)])
def test_float_tiff(values, scale):
    found = read_image(encoded(Image.fromarray(values.astype(np.float32)), "TIFF"))
    assert np.array_equal(found[..., 1], np.rint(values * scale).astype(np.uint8))


def test_whole_numbers_of_32_bits_that_8_hold_are_taken_as_they_are():
    found = read_image(encoded(Image.fromarray(GREY.astype(np.int32)), "TIFF"))
    assert np.array_equal(found[..., 0], GREY)


@pytest.mark.parametrize(
    ("largest", "dtype"), [(1023, np.uint16), (4095, np.uint16), (4095, np.float32)]
)
def test_grey_of_a_camera_s_own_bits_is_refused(largest, dtype):
    """Taken for 16 bits it would be nearly black."""
    values = (GREY / GREY.max() * largest).astype(dtype)
    with pytest.raises(ImageError, match=rf"grey values up to {largest}, .*: scale them to 8"):
        read_image(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_negative_is_refused(dtype):
    """Pillow turns those of 8 bits alone."""
    values = np.full((4, 4), 60_000 if dtype == np.uint16 else 0.9, dtype)
    positive = encoded(Image.fromarray(values), "TIFF")
    photometric = b"\x06\x01\x03\x00\x01\x00\x00\x00"  # the tag 262, one number of 16 bits
    assert positive.count(photometric + b"\x01\x00") == 1
    assert read_image(positive).min() > 220
    with pytest.raises(ImageError, match="is a negative: its white is 0: save it with black as 0"):
        read_image(positive.replace(photometric + b"\x01\x00", photometric + b"\x00\x00"))


def test_a_dark_image_of_16_bits_is_not_made_bright():
    """Pillow opens a PGM of 16 bits as one of 32."""
    pgm = b"P5 2 1 65535 " + np.array([[0, 200]], ">u2").tobytes()
    with pytest.raises(ImageError, match="grey values up to 200"):
        read_image(pgm)
    bright = b"P5 2 1 65535 " + np.array([[0, 51200]], ">u2").tobytes()
    assert read_image(bright)[0, :, 0].tolist() == [0, 200]


@pytest.mark.parametrize(
    ("values", "seen"),
    [([0, 0.5, 1.02], [0, 128, 255]), ([0, 127.6, 255.3], [0, 128, 255]),
     ([0, 0.5, np.inf], [0, 128, 255]), ([0, np.nan, 1.0], [0, 0, 255])],
)  # fmt: skip
def test_floats_that_overshoot_are_cut_off(values, seen):
    found = read_image(encoded(Image.fromarray(np.array([values], np.float32)), "TIFF"))
    assert found[0, :, 0].tolist() == seen


def test_black_of_16_bits_is_black():
    assert not read_image(encoded(Image.fromarray(np.zeros((4, 4), np.uint16)))).any()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_shows_white(mode):
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0)).convert(mode)
    kind = "PNG" if mode != "PA" else "TIFF"
    try:
        content = encoded(image, kind)
    except OSError:  # Pillow can't write every mode that it can hold.
        content = encoded(image.convert("RGBA"))
    assert (read_image(content) == 255).all()


def test_half_transparent_is_blended():
    content = encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 128)))
    assert (read_image(content) == 127).all()


def test_transparent_palette_entry_shows_white():
    image = Image.new("P", (4, 4))
    image.putpalette([200, 10, 10] + [0] * 765)
    assert (read_image(encoded(image, transparency=0)) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    content = encoded(Image.fromarray(PIXELS), exif=_turned(orientation))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.array_equal(read_image(content), np.asarray(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_orientation_of_tiffs_which_pillow_turns_itself(orientation, compression):
    upright = read_image(encoded(Image.fromarray(PIXELS), exif=_turned(orientation)))
    options = {"exif": _turned(orientation), "compression": compression}
    assert np.array_equal(read_image(encoded(Image.fromarray(PIXELS), "TIFF", **options)), upright)


def _turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_no_other_program_reads_a_file(tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript, whatever the file's name."""
    ran = tmp_path / "ran"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    page = tmp_path / "photo.jpg"
    page.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n")
    with pytest.raises(ImageError, match="is not an image"):
        read_image(page)
    assert not ran.exists()


def test_a_kind_that_is_not_read_is_named(tmp_path):
    photo = tmp_path / "photo.HEIC"
    photo.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(ImageError, match=r"HEIC is a HEIC file, which isn't read: convert it to J"):
        read_image(photo)
    photo.write_bytes(encoded(Image.fromarray(PIXELS)))  # a PNG that is called so
    assert np.array_equal(read_image(photo), PIXELS)
    raw = tmp_path / "photo.dng"
    Image.fromarray(PIXELS).save(raw, format="TIFF")  # its preview, and no photo
    with pytest.raises(ImageError, match="is a DNG file, which isn't read"):
        read_image(raw)


def test_broken_exif_is_ignored():
    content = encoded(Image.fromarray(PIXELS), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert np.array_equal(read_image(content), PIXELS)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (read_image(content) == (255, 0, 0)).all()


def test_reads_paths_and_streams(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    with path.open("rb") as stream:
        assert np.array_equal(read_image(path), read_image(stream))
        assert not stream.closed


@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 9_700, 60_000])
def test_bombs_are_refused_without_a_warning(side):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"^bomb\.png has more than 80 million pixels: "):
            read_image(png_header(side, side), name="bomb.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "I;16", "F", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_pieces_make_up_the_whole(monkeypatch, mode, orientation):
    random = np.random.default_rng(4)
    drawn = random.integers(0, 256, (23, 31, 4), np.uint8)
    if mode in ("I;16", "F"):
        drawn = random.uniform(0, 1 if mode == "F" else 65535, (23, 31))
        image = Image.fromarray(drawn.astype(np.float32 if mode == "F" else np.uint16))
    elif mode == "P":
        image = Image.fromarray(drawn[..., :3]).quantize(9)
    else:
        image = Image.fromarray(drawn).convert(mode)
    kind, exif = {"F": "TIFF", "CMYK": "JPEG"}.get(mode, "PNG"), _turned(orientation)
    content = encoded(image, kind, exif=exif, **({"transparency": 3} if mode == "P" else {}))
    whole = read_image(content)
    for pixels in (7, 50, 100):  # less than a row, and more
        monkeypatch.setattr(images, "_PIECE_PIXELS", pixels)
        assert np.array_equal(read_image(content), whole)


# What a process has to have for an image, apart from what it has anyway, and for many that four
# threads read.
_PEAK = """
import sys
from concurrent.futures import ThreadPoolExecutor
from edgecifar.runtime import images
from PIL import Image

def resident(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def read(path):
    with images.decoded(path) as image:
        images.resize(image, 8, 8)
        return image.shape

Image.init()
before = resident("VmRSS")
path, count = sys.argv[1], int(sys.argv[2])
if count == 1:
    shape = images.read_image(path).shape
else:
    images.MAX_PIXELS = 4000 * 4000
    with ThreadPoolExecutor(4) as pool:
        *_, shape = pool.map(read, [path] * count)
print((resident("VmHWM") - before) / (shape[0] * shape[1]))
"""


def peak(path, count=1):
    """Bytes a pixel."""
    command = [sys.executable, "-c", _PEAK, path, str(count)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("kind", "mode", "options", "most"),
    [
        ("PNG", "RGB", {}, 8),
        ("PNG", "RGBA", {}, 8),
        ("PNG", "LA", {}, 8),
        ("PNG", "I;16", {}, 8),
        ("JPEG", "RGB", {"turned": 6}, 8),
        ("JPEG", "CMYK", {}, 8),
        ("JPEG", "CMYK", {"progressive": True, "subsampling": 0}, 12),
        ("TIFF", "F", {}, 12),
        ("TIFF", "RGBA", {"compression": "tiff_lzw", "turned": 6}, 12),
        ("WEBP", "RGBA", {"method": 0}, 16),
    ],
)
def test_memory_stays_within_what_is_promised(tmp_path, kind, mode, options, most):
    """640 MB at the largest size: 8 bytes a pixel, and fewer pixels where there are more."""
    exif = _turned(options.get("turned", 1))
    options = {name: value for name, value in options.items() if name != "turned"}
    Image.new(mode, (3000, 3000)).save(tmp_path / "large", kind, exif=exif, **options)
    assert peak(tmp_path / "large") < most + 0.5


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_many_images_at_once_take_the_memory_of_one(tmp_path):
    """With what threads have freed: glibc keeps pieces of it, below 32 MB, for each of them."""
    Image.new("RGB", (4000, 4000)).save(tmp_path / "large", "JPEG")
    assert peak(tmp_path / "large", 8) < 8.5


def test_fewer_pixels_where_decoding_one_takes_more(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 3_000_000)
    image, answers = Image.new("RGB", (1600, 1600)), {}
    for kind, options in (
        ("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("TIFF", {}), ("WEBP", {})
    ):  # fmt: skip
        name = "progressive" if options else kind
        try:
            answers[name] = read_image(encoded(image, kind, **options)).shape[0]
        except ImageError as error:
            answers[name] = str(error)
    assert answers["PNG"] == answers["JPEG"] == 1600
    assert answers["progressive"].startswith("the image has more than 2 million pixels: ")
    assert answers["TIFF"] == answers["progressive"]
    assert answers["WEBP"].startswith("the image has more than 1 million pixels: ")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_truncated_is_named(kind):
    random = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    content = encoded(Image.fromarray(random), kind)
    with pytest.raises(ImageError, match=r"^cut\.img is (truncated or damaged|not an image)"):
        read_image(content[: len(content) // 2], name="cut.img")


@pytest.mark.parametrize("content", [b"", b"just text\n", b"<html></html>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_not_an_image_is_named(tmp_path, content):
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"notes\.png is (not an image|truncated)") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def outcome(content):
    try:
        found = read_image(content)
    except ImageError as error:
        return "one line" if str(error).count("\n") == 0 else str(error)
    return str(found.dtype), found.ndim


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "LZW TIFF", "GIF", "BMP"])
def test_damage_anywhere_gives_pixels_or_one_line(kind, capfd):
    random = np.random.default_rng(1)
    options = {"compression": "tiff_lzw"} if " " in kind else {}
    content = encoded(Image.fromarray(PIXELS), kind.split()[-1], **options)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 3):
            damaged[place] ^= int(random.integers(1, 256))
        outcomes.add(outcome(bytes(damaged)))
    assert outcomes <= {("uint8", 3), "one line"}
    assert "one line" in outcomes
    assert capfd.readouterr().err == "", "Pillow or libtiff said something itself"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png can't be read \(No such file"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("name", ["a\0b.png", "a\ud800b.png"])
def test_a_name_that_no_file_can_have_is_one_line(name):
    with pytest.raises(ImageError, match=r"b\.png can't be read \(.+\): check the path"):
        read_image(name)


def test_resize_scales_the_whole_image():
    found = resize(PIXELS, 4, 6)
    assert found.shape == (4, 6, 3)
    assert found.dtype == np.uint8
    assert found[0, 0, 0] > 200  # red corner
    assert found[0, -1, 2] > 200  # blue corner
    assert resize(PIXELS, 16, 24) is PIXELS


def test_find_images(tmp_path):
    for name in ("b/2.PNG", "a/1.jpg", ".hidden/x.png", "a/.y.png", "notes.txt", "top.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(*paths):
        return [path.relative_to(tmp_path).as_posix() for path in find_images(paths)]

    assert names(tmp_path) == ["top.webp", "a/1.jpg", "b/2.PNG"]
    assert names(f"{tmp_path}/*/*.jpg", tmp_path / "notes.txt") == ["a/1.jpg", "notes.txt"]


def test_a_link_to_nowhere_is_an_image_like_others(tmp_path):
    for name in ("a.png", "c.png"):
        Image.fromarray(PIXELS).save(tmp_path / name)
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    for paths in ([tmp_path], [f"{tmp_path}/*.png"]):
        assert [path.name for path in find_images(paths)] == ["a.png", "b.png", "c.png"]
    with pytest.raises(ImageError, match=r"b\.png can't be read \(No such file"):
        read_image(tmp_path / "b.png")


def test_linked_folders_are_searched_once_and_loops_end(tmp_path):
    """As they are where images are taken for training: both share their walk."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    (tmp_path / "given" / "below").mkdir(parents=True)
    (tmp_path / "given" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "given" / "second").symlink_to(tmp_path / "real")
    (tmp_path / "given" / "below" / "loop").symlink_to(tmp_path / "given")
    assert [*find_images([tmp_path / "given"])] == [tmp_path / "given" / "link" / "a.png"]


def test_patterns_leave_folders_and_pipes_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "below.png").mkdir(parents=True)
    for name in ("photos/a.png", "photos/below.png/b.png"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "photos" / "pipe.png")
    assert [*find_images(["photos/*"])] == [Path("photos/a.png")]
    both = [Path("photos/a.png"), Path("photos/below.png/b.png")]
    assert [*find_images(["photos/**"])] == both
    with pytest.raises(EdgecifarError, match="no images in"):
        [*find_images(["photos/pipe*"])]


@pytest.mark.parametrize("path", ["empty", "gone.png", "*.gif", "x" * 300 + ".png"])
def test_find_images_names_what_is_missing(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgecifarError, match=r"no images in|does not exist"):
        list(find_images([tmp_path / path]))


def test_pipes_in_a_folder_are_no_images(tmp_path):
    """One would wait for ever for what nobody writes."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "photo.png").write_bytes(encoded(Image.fromarray(PIXELS)))
    assert [path.name for path in find_images([tmp_path])] == ["photo.png"]


def test_a_folder_that_cannot_be_listed_is_named_after_all_others(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.png").write_bytes(encoded(Image.fromarray(PIXELS)))
    scandir = os.scandir

    def listed(path):
        if os.fspath(path).endswith("a"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listed)
    found = find_images([tmp_path])
    assert next(found).parent.name == "b"
    with pytest.raises(EdgecifarError, match=r"a can't be read \(Permission denied\)"):
        next(found)


def test_images_read_at_once_take_no_more_than_one_may(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 2 * PIXELS.shape[0] * PIXELS.shape[1] - 1)
    photo, tiff = (encoded(Image.fromarray(PIXELS), kind) for kind in ("JPEG", "TIFF"))
    small, done = encoded(Image.new("RGB", (2, 2)), "JPEG"), threading.Event()

    def read():
        read_image(tiff)
        done.set()

    with images.decoded(photo) as held:
        thread = threading.Thread(target=read)
        thread.start()
        assert read_image(small).shape == (2, 2, 3)  # what fits beside it waits for nothing
        assert not done.wait(0.2)
        assert held.shape == PIXELS.shape
    assert done.wait(20)
    thread.join()


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_damaged_image_leaves_its_room_to_others(monkeypatch, kind):
    monkeypatch.setattr(images, "MAX_PIXELS", PIXELS.shape[0] * PIXELS.shape[1] * 3 // 2)
    photo = encoded(Image.fromarray(PIXELS), kind)
    for _ in range(3):
        with pytest.raises(ImageError):
            read_image(photo[: len(photo) // 2])
    assert read_image(photo).shape == PIXELS.shape


def test_an_empty_path_is_not_the_working_folder():
    with pytest.raises(EdgecifarError, match="an empty path: give an image"):
        next(find_images([""]))
