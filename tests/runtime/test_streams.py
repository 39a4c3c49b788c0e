import io
import os
import threading

import numpy as np
import pytest
from PIL import Image

from edgecifar.runtime import streams
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.images import read_image
from edgecifar.runtime.streams import read_items


def encoded(image, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def items(data):
    return list(read_items(io.BytesIO(data)))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100}])
def test_jpegs_one_after_another(images, options):
    files = [encoded(np.tile(image, (4, 4, 1)), "JPEG", **options) for image in images[:5]]
    assert items(b"".join(files)) == files


def test_a_jpeg_with_a_thumbnail_of_its_own(images):
    """An end marker within the EXIF data isn't the image's."""
    exif = Image.Exif()
    exif[0x9286] = encoded(images[0], "JPEG")
    file = encoded(images[1], "JPEG", exif=exif)
    assert items(file * 2) == [file, file]


def test_pngs_and_jpegs_mixed(images):
    files = [encoded(images[0], "PNG"), encoded(images[1], "JPEG"), encoded(images[2], "PNG")]
    assert items(b"".join(files)) == files


@pytest.mark.parametrize("kind", ["BMP", "WEBP", "PPM"])
def test_other_formats_that_say_how_long_they_are(images, kind):
    files = [encoded(image, kind) for image in images[:3]]
    assert items(b"".join(files)) == files
    assert items(b"\n".join(files)) == files


def test_headers_of_portable_pixmaps():
    plain, wide = b"P5\n# a comment\n3 2 # another\n255\n" + bytes(6), b"P6 1 2 65535 " + bytes(12)
    assert items(plain + wide + plain) == [plain, wide, plain]
    with pytest.raises(EdgecifarError, match="ends within an image"):
        items(plain[:-1])
    with pytest.raises(EdgecifarError, match="damaged"):
        items(b"P5\n3 x 255\n")
    with pytest.raises(EdgecifarError, match="256 MiB"):
        items(b"P6 99999999 99999999 255 ")


def test_a_bitmap_that_does_not_say_how_long_it_is(images):
    file = bytearray(encoded(images[0], "BMP"))
    file[2:6] = bytes(4)
    assert items(bytes(file)) == [bytes(file)]


@pytest.mark.parametrize("kind", ["BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_other_formats_are_one_image(images, kind):
    (found,) = items(encoded(images[0], kind))
    assert read_image(found).shape == images[0].shape


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"a.png\nb c.jpg\n", ["a.png", "b c.jpg"]),
        (b"a.png", ["a.png"]),
        (b"a.png\r\n\r\nb.png\r\n", ["a.png", "b.png"]),
        (b"a\nb.png\0c.png\0", ["a", "b.png", "c.png"]),
        ("käse.png\n".encode(), ["käse.png"]),
        (b"P6010001.JPG\nP5.png\n", ["P6010001.JPG", "P5.png"]),
        (b"P5\nP6\n", ["P5", "P6"]),
        (b"BMW.jpg\n", ["BMW.jpg"]),
        (b"BMW.jpg\0BMX.jpg\0", ["BMW.jpg", "BMX.jpg"]),
        (b"RIFFLE.jpg\nlast.jpg\n", ["RIFFLE.jpg", "last.jpg"]),
        (b"GIF8.gif\n", ["GIF8.gif"]),
    ],
)
def test_file_names(text, names):
    assert items(text) == names


@pytest.mark.parametrize("name", ["a", "a.png", "P5.pgm", "P6.ppm", "BM.bmp", "BMW.gif", "GIF8"])
def test_a_short_name_is_given_as_soon_as_its_line_ends(name):
    read, write = os.pipe()
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb", buffering=0) as sink:
        sink.write(f"{name}\n".encode())
        found = []
        reader = threading.Thread(target=lambda: found.append(next(read_items(source))))
        reader.start()
        reader.join(5)
        in_time = list(found)
        sink.close()  # lets go of a reader that waits
        reader.join()
    assert in_time == [name]


def test_pictures_that_a_photo_lists_are_part_of_it(images):
    """Phones append previews and gain maps (CIPA DC-007), Pillow's MPO."""
    first, second = (Image.fromarray(np.tile(image, (4, 4, 1))) for image in images[:2])
    stream = io.BytesIO()
    first.save(stream, "MPO", save_all=True, append_images=[second])
    photo, other = stream.getvalue(), encoded(images[3], "JPEG")
    assert items(photo + photo + other) == [photo, photo, other]
    alone = encoded(np.asarray(first), "JPEG")
    cut = photo[: photo.index(b"\xff\xd9") + 2]  # as some programs leave it
    assert items(cut + alone) == [cut, alone]
    assert items(cut) == [cut]


@pytest.mark.parametrize("at", range(10, 90, 8))
def test_a_damaged_list_of_pictures_is_none(images, at):
    stream = io.BytesIO()
    picture = Image.fromarray(images[0])
    picture.save(stream, "MPO", save_all=True, append_images=[picture])
    photo = bytearray(stream.getvalue())
    index = photo.index(b"MPF\0")
    photo[index + at] ^= 0xFF
    found = items(bytes(photo))
    assert b"".join(found) == photo


def test_a_film_behind_a_photo_is_passed_over(images):
    """Of motion photos."""
    photo, other = encoded(images[0], "JPEG"), encoded(images[1], "PNG")
    boxes = ((b"ftyp", b"mp42" + bytes(4)), (b"moov", bytes(40)), (b"mdat", b"\xff\xd8\xff" * 9))
    film = b"".join((len(data) + 8).to_bytes(4, "big") + name + data for name, data in boxes)
    large = (1).to_bytes(4, "big") + b"mdat" + (24).to_bytes(8, "big") + bytes(8)
    endless = bytes(4) + b"mdat" + b"text" * 9
    assert items(photo + film + large + other) == [photo, other]
    assert items(photo + film + endless) == [photo]
    with pytest.raises(EdgecifarError, match="something else"):
        items(photo + film + b"some text")


@pytest.mark.parametrize("padding", [bytes(100_000), b"\r\n", b"\0 \n"])
def test_padding_after_each_image(images, padding):
    """Cameras fill their buffers up with zeros."""
    files = [encoded(images[0], "JPEG"), encoded(images[1], "PNG"), encoded(images[2], "JPEG")]
    assert items(b"".join(file + padding for file in files)) == files


def test_each_image_is_given_as_soon_as_it_is_whole(images):
    """A camera's stream doesn't end."""
    file = encoded(images[0], "PNG")
    read, write = os.pipe()
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb", buffering=0) as sink:
        found = read_items(source)
        for _ in range(3):
            threading.Thread(target=sink.write, args=(file,)).start()
            assert next(found) == file


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_broken_streams(images, kind):
    file = encoded(images[0], kind)
    with pytest.raises(EdgecifarError, match="ends within an image"):
        items(file + file[: len(file) // 2])
    with pytest.raises(EdgecifarError, match="something else"):
        items(file + b"text")
    with pytest.raises(EdgecifarError, match="empty"):
        items(b"")


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_jpeg_that_breaks_off_costs_no_other(images, kept):
    files = [encoded(np.tile(image, (4, 4, 1)), "JPEG") for image in images[:3]]
    damaged = files[0][: int(len(files[0]) * kept)]
    assert items(damaged + files[1] + files[2]) == [damaged, files[1], files[2]]


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\1\x67\x64\0\x1f\xac",  # H.264
        b"\0\0\0\x20ftypisom",  # MP4
        b"\x1f\x8b\x08\0\n",  # gzip
        b"a.png\n%PDF-\x01\n",
    ],
)
def test_other_data_is_not_taken_for_file_names(data):
    with pytest.raises(EdgecifarError, match="neither images nor file names"):
        items(data)


def test_an_endless_image(monkeypatch):
    monkeypatch.setattr(streams, "LARGEST_IMAGE", 1000)
    with pytest.raises(EdgecifarError, match="256 MiB"):
        items(b"\xff\xd8" + bytes(5000))
    with pytest.raises(EdgecifarError, match="256 MiB"):
        items(b"BM" + bytes(5000))


def test_a_photo_behind_a_film_is_none_of_it(images):
    """The length of its first segment may read like the letters of a box's name."""
    photo, film = encoded(images[0], "JPEG"), b"\0\0\0\x10ftypmp42" + bytes(4)
    exif = b"Exif\0\0".ljust(0x3045 - 2, b"\0")
    other = photo[:2] + b"\xff\xe1" + (0x3045).to_bytes(2, "big") + exif + photo[2:]
    assert other[4:8].isalnum()
    assert items(photo + film + other + photo) == [photo, other, photo]


@pytest.mark.parametrize("brand", ["heic", "avif"])
def test_an_image_that_comes_in_boxes_is_no_film(images, brand):
    boxed = (16).to_bytes(4, "big") + b"ftyp" + brand.encode() + bytes(4)
    for before in (b"", encoded(images[0], "JPEG")):
        with pytest.raises(EdgecifarError, match=f"of the kind {brand}: send JPEGs or PNGs"):
            items(before + boxed)


def test_notes_behind_a_photo_are_passed_over(images):
    """Of Samsung's phones: the time, and a list of such notes."""
    photo, other = encoded(images[0], "JPEG"), encoded(images[1], "PNG")
    name, said = b"Image_UTC_Data", b"1690000000000"
    block = b"\0\0\x01\x0a" + len(name).to_bytes(4, "little") + name + said
    listed = b"SEFH" + (106).to_bytes(4, "little") + bytes(16) + (24).to_bytes(4, "little")
    notes = block + listed + b"SEFT"
    assert items(photo + notes + photo + notes) == [photo, photo]
    assert items(photo + notes + bytes(50) + other) == [photo, other]
    with pytest.raises(EdgecifarError, match="ends within an image"):
        items(photo + block)
