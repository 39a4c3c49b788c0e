"""Does an exported file say what its Keras model says? Measured, on images it never trained on."""

from dataclasses import dataclass

import numpy as np

from edgecifar.runtime.statistics import Estimate, describe_change, paired_change
from edgecifar.train.evaluate import accuracy

# Percent of images. Sound int8 files reached 98.5 or more, and what they disagree on are images
# that the network is unsure of; 8 bits alone don't explain one image in twenty.
LEAST_AGREEMENT = 95.0


@dataclass(frozen=True)
class Parity:
    """A file against its Keras model on the same `n` images."""

    n: int
    agreement: float  # percent of images with the same most probable class
    largest_difference: float  # between two probabilities of the same class, 0..1
    mean_difference: float
    per_class: dict[str, float]  # change in accuracy, in points, by class
    change: Estimate  # in accuracy, in points, paired
    keras: dict[str, float]  # top1, low and high in percent
    file: dict[str, float]
    original: str | None = None  # the float model that was fine-tuned to become that Keras model
    original_change: Estimate | None = None  # in accuracy, against it

    @property
    def text(self) -> str:
        """One line: agreement, what of the accuracy was lost, and by which class most.

        Fine-tuning may have lost what the file then hasn't: of that too.
        """
        change = describe_change("accuracy", self.change, f", {self.n:,} validation images")
        name, points = min(self.per_class.items(), key=lambda item: item[1])
        worst = f", worst class {name} ({points:+.1f})" if points < 0 else ""
        text = f"{self.agreement:.2f} % of answers the same, {change}{worst}"
        if self.original_change is None:
            return text
        since = describe_change("accuracy", self.original_change)
        return f"{text}; against {self.original} in float {since}"


def compare(
    keras: np.ndarray,
    file: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    original: tuple[str, np.ndarray] | None = None,
) -> Parity:
    """Compare probabilities, float [n, classes] each, of images with the given labels, int [n].

    `original` is the name of a float model, and where it is right, bool [n].
    """
    difference = np.abs(keras - file)
    ours, theirs = keras.argmax(axis=1), file.argmax(axis=1)
    change = (theirs == labels).astype(float) - (ours == labels)
    return Parity(
        n=len(labels),
        agreement=100 * float((ours == theirs).mean()),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        per_class={
            name: 100 * float(change[labels == index].mean())
            for index, name in enumerate(classes)
            if (labels == index).any()
        },
        change=paired_change(ours == labels, theirs == labels),
        keras=accuracy(ours == labels),
        file=accuracy(theirs == labels),
        original=original and original[0],
        original_change=original and paired_change(original[1], theirs == labels),
    )
