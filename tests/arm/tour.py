"""Runs on an emulated board: commands, and what the model computes for images.

python tour.py LAUNCHER MODEL IMAGES.npy OUTPUTS.npz COMMANDS (as JSON). Prints one JSON object.
"""

import contextlib
import io
import json
import sys

import numpy as np

from edgecifar.runtime import Classifier
from edgecifar.runtime.commands import main


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
    """Return scores int8 [N, classes], and logits: what goes into the softmax."""
    interpreter = classifier._first._interpreter
    (softmax,) = [op for op in interpreter._get_ops_details() if op["op_name"] == "SOFTMAX"]
    scores, logits = [], []
    for image in images:
        scores.append(classifier.scores(image))
        logits.append(interpreter.get_tensor(int(softmax["inputs"][0])).copy())
    return {"scores": np.concatenate(scores), "logits": np.concatenate(logits)}


def tour(launcher, model, images, outputs, commands):
    """Do it all in one process: under emulation an import takes seconds."""
    sys.executable = launcher  # children of bench and doctor are emulated too
    classifier = Classifier(model, threads=1)
    if images:
        np.savez(outputs, **compute(classifier, np.load(images)))
    told = {name: call(arguments) for name, arguments in json.loads(commands).items()}
    return {"backend": classifier.backend, **told}


if __name__ == "__main__":
    print(json.dumps(tour(*sys.argv[1:])))
