"""Damaged and hostile files: an error on one line, or the right answer, and nothing else.

A thousand of each kind; of those that may cost a process each some dozens, or EDGECIFAR_FUZZ.
"""

import io
import json
import os
import random
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image

from edgecifar.runtime import Classifier, golden, modelfile, results
from edgecifar.runtime.description import describe, lines
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.images import read_image
from edgecifar.runtime.verification import verify

COUNT = 1000
FOREIGN_COUNT = int(os.environ.get("EDGECIFAR_FUZZ", "24"))  # each may cost a process
FILES = ("int8.tflite", "float32.tflite", "float32.onnx")
SLOW = 5.0  # seconds; nothing here takes a tenth of that


def mutate(data, rng):
    """Flip, overwrite, cut, repeat or insert bytes, as damage and fuzzers do."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        if not data:
            break
        at, kind = rng.randrange(len(data)), rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            data[at : at + 4] = rng.randbytes(4)
        elif kind == 3:
            data[at : at + rng.randrange(1, 40)] = b""
        elif kind == 4:
            data[at:at] = data[at : at + rng.randrange(1, 40)]
        else:
            del data[max(1, at) :]
    return bytes(data)


def attempt(call):
    """Return what the call gives, or None if it says in one line what is wrong."""
    start = time.monotonic()
    try:
        return call()
    except EdgecifarError as error:
        message = str(error)
    finally:
        assert time.monotonic() - start < SLOW
    assert message.strip()
    assert "\n" not in message
    return None


@pytest.mark.parametrize("name", FILES)
def test_damaged_model_files(described, name):
    """A file is refused, or holds what it held: no changed weight or label gets through."""
    path = described / name
    good, model = path.read_bytes(), modelfile.read(path)
    rng = random.Random(name)
    refused = 0
    for _ in range(COUNT):
        path.write_bytes(mutate(good, rng))
        found = attempt(lambda: modelfile.read(path))
        if found is None:
            refused += 1
        elif found.has_checksum:
            assert found.payload == model.payload
            assert found.labels == model.labels
            assert found.metadata == model.metadata
        else:  # cut off before its description: nothing vouches for it, and `classify` says so
            assert found.metadata is None
    assert refused > 0.8 * COUNT


@pytest.mark.parametrize("mended", [False, True], ids=["no checksum", "a right checksum"])
@pytest.mark.parametrize("name", ["float32.tflite", "float32.onnx"])
def test_damaged_files_that_nothing_vouches_for(bare, tmp_path, name, mended):
    """What can kill an interpreter kills a child's; the process that asked lives on."""
    rng = random.Random(name)
    for number in range(FOREIGN_COUNT):
        path = tmp_path / f"{number:04d}-{name}"
        path.write_bytes(mutate((bare / name).read_bytes(), rng))
        while mended and not describes(path):  # until one passes the quick check
            path.write_bytes(mutate((bare / name).read_bytes(), rng))
    code = (
        "import pathlib, sys, numpy as np\n"
        "from edgecifar.runtime import Classifier, EdgecifarError\n"
        "image = np.full((16, 16, 3), 200, np.uint8)\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try:\n"
        "        print('label', Classifier(path).predict(image).labels)\n"
        "    except EdgecifarError as error:\n"
        "        print('error', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        capture_output=True, text=True, errors="replace", check=False,
        timeout=120 + 5 * FOREIGN_COUNT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = [line.split()[0] for line in done.stdout.splitlines()]
    assert len(told) == FOREIGN_COUNT
    assert {*told} == {"label", "error"}


def describes(path):
    """Whether the file can be given a description, with the checksum of what is left of it."""
    attempt(lambda: modelfile.append(path, {"name": "damaged"}, None))
    found = attempt(lambda: modelfile.read(path))
    return found is not None and found.has_checksum


def strange(rng):
    return rng.choice(
        [None, True, -1, 0, 1e308, 2**70, "", "x" * 300, "\ud800", "a\nb", [], {}, [[]], {"": None}]
    )


def alter(value, rng):
    """Replace one value somewhere in a tree of dicts and lists."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = rng.choice(keys)
    if isinstance(value[key], (dict, list)) and value[key] and rng.random() < 0.7:
        alter(value[key], rng)
    else:
        value[key] = strange(rng)


def test_hostile_descriptions(described):
    """Someone who writes the checksums too, so that the description is read."""
    path = described / "int8.tflite"
    classifier = Classifier(path)
    proof = golden.record(classifier, tolerance=0.0, elsewhere=0.1)
    accuracy = {"top1": 90.0, "low": 89.0, "high": 91.0, "n": 100}
    more = {"golden": proof, "accuracy": {"this": accuracy}, "recipe": {"epochs": 3}}
    more["float_layers"] = ["stem", "classifier"]
    modelfile.append(path, {**classifier.model.metadata, **more}, classifier.classes)
    model = modelfile.read(path)
    rng = random.Random(0)
    image = np.zeros((16, 16, 3), np.uint8)
    calls = (
        lambda: lines(describe(path)),
        lambda: Classifier(path).predict(image).top(2),
        lambda: verify(path),
    )
    answered = np.zeros(len(calls))
    for _ in range(COUNT):
        metadata = json.loads(json.dumps(model.metadata))
        for _ in range(rng.choice([1, 1, 3])):
            alter(metadata, rng)
        metadata["payload_sha256"] = model.sha256
        metadata["metadata_sha256"] = modelfile.metadata_sha256(metadata)
        text = json.dumps(metadata).encode()
        path.write_bytes(modelfile.tflite_container.join(model.payload, {"edgecifar.json": text}))
        answered += [attempt(call) is not None for call in calls]
    assert (answered > 0.3 * COUNT).all()
    assert (answered < 0.8 * COUNT).all()


@pytest.fixture(scope="module")
def pictures(images):
    """The same picture in all formats."""
    picture = Image.fromarray(np.tile(images[0], (3, 3, 1)))
    kinds = {"PNG": {}, "JPEG": {}, "WEBP": {}, "BMP": {}, "GIF": {}, "TIFF": {}, "PPM": {}}
    kinds |= {"MPO": {}, "TGA": {}, "ICO": {}}
    found = []
    for kind, options in kinds.items():
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        found.append(stream.getvalue())
    return found


def test_damaged_images(pictures):
    rng = random.Random(1)
    read = 0
    for number in range(COUNT):
        data = mutate(pictures[number % len(pictures)], rng)
        found = attempt(partial(read_image, data))
        if found is not None:
            read += 1
            assert found.dtype == np.uint8
            assert found.ndim == 3
            assert found.shape[2] == 3
            assert found.size
    assert 0.2 * COUNT < read < 0.8 * COUNT


def test_damaged_results(tmp_path):
    result = results.seal({"schema": 1, "kind": "bench", "models": [{"top1": 91.25, "n": 1000}]})
    good, path = results.as_bytes(result), tmp_path / "result.json"
    rng = random.Random(2)
    refused = 0
    for _ in range(COUNT):
        path.write_bytes(mutate(good, rng))
        found = attempt(lambda: results.read(path))
        assert found in (None, result)
        refused += found is None
    assert 0.9 * COUNT < refused < COUNT
