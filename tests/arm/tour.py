"""Runs on an emulated board: commands, and what the model computes for images.

python tour.py LAUNCHER MODEL IMAGES.npy OUTPUTS.npz COMMANDS (as JSON). Prints one JSON object.
"""

import contextlib
import io
import json
import random
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgecifar.runtime import Classifier, golden, modelfile
from edgecifar.runtime.commands import main
from edgecifar.runtime.errors import EdgecifarError

DAMAGED = 60  # copies of the model


def call(arguments):
    """Run a command; return its exit status, what it printed and what went to stderr."""
    output, errors, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main(arguments, prog_name="edgecifar")
        except SystemExit as error:
            status = error.code or 0
    return status, output.getvalue(), errors.getvalue()


def compute(classifier, images):
    """Return scores int8 [N, classes], logits: what goes into the softmax, and golden ones.

    Those are the probabilities of the images that the file's golden outputs are of.
    """
    interpreter = classifier._first._interpreter
    (softmax,) = [op for op in interpreter._get_ops_details() if op["op_name"] == "SOFTMAX"]
    scores, logits = [], []
    for image in images:
        scores.append(classifier.scores(image))
        logits.append(interpreter.get_tensor(int(softmax["inputs"][0])).copy())
    drawn = [
        golden.draw(number, *classifier.image_shape[:2])
        for number in classifier.model.metadata["golden"]["images"]
    ]
    return {
        "scores": np.concatenate(scores),
        "logits": np.concatenate(logits),
        "golden": classifier.predict(np.stack(drawn)).probabilities,
    }


def damage(model):
    """Read copies with an offset of 2 GiB and more; return how each ended, "read" if it didn't."""
    good, rng, ends = Path(model).read_bytes(), random.Random(0), []
    tables = modelfile.read(model).payload
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        for number in range(DAMAGED):
            # Without the description's checksum in front of them, and at the description itself.
            data = bytearray(good if number % 2 else tables)
            at = len(data) - rng.randrange(4, 200) if number % 2 else 4 * rng.randrange(20)
            at = 0 if number == 0 else at
            data[at : at + 4] = struct.pack("<I", rng.randrange(1 << 31, 1 << 32))
            Path(file.name).write_bytes(data)
            try:
                modelfile.read(file.name)
                ends.append("read")
            except EdgecifarError:
                ends.append("refused")
            except Exception as error:
                ends.append(repr(error))
    return ends


def tour(launcher, model, images, outputs, commands):
    """Do it all in one process: under emulation an import takes seconds."""
    sys.executable = launcher  # children of bench and doctor are emulated too
    classifier = Classifier(model, threads=1)
    if images:
        np.savez(outputs, **compute(classifier, np.load(images)))
    told = {name: call(arguments) for name, arguments in json.loads(commands).items()}
    if struct.calcsize("P") == 4:  # where an address reaches no further than such offsets
        told["damaged"] = damage(model)
    return {"backend": classifier.backend, **told}


if __name__ == "__main__":
    print(json.dumps(tour(*sys.argv[1:])))
