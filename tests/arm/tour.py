"""Runs on an emulated board: every command, and the raw outputs of the images that it is given.

python tour.py LAUNCHER MODEL IMAGES.npy OUTPUTS.npy COMMANDS (as JSON). Prints one JSON object.
"""

import contextlib
import io
import json
import sys

import numpy as np

from edgecifar.runtime import Classifier
from edgecifar.runtime.commands import main


def call(arguments):
    """Run a command; return its exit status and what it printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            main(arguments, prog_name="edgecifar")
        except SystemExit as error:
            return error.code or 0, output.getvalue()
    return 0, output.getvalue()


def tour(launcher, model, images, outputs, commands):
    """Do it all in one process: under emulation an import takes seconds."""
    sys.executable = launcher  # children of bench and doctor are emulated too
    classifier = Classifier(model, threads=1)
    if images:
        found = [classifier.scores(image) for image in np.load(images)]
        np.save(outputs, np.concatenate(found))
    told = {name: call(arguments) for name, arguments in json.loads(commands).items()}
    return {"backend": classifier.backend, **told}


if __name__ == "__main__":
    print(json.dumps(tour(*sys.argv[1:])))
