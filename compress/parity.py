"""Does an exported file say what its Keras model says? Measured, on images it never trained on."""

from dataclasses import dataclass

import numpy as np

from edgecifar.runtime.statistics import wilson


@dataclass(frozen=True)
class Parity:
    """A file against its Keras model on the same `n` images."""

    n: int
    agreement: float  # percent of images with the same most probable class
    largest_difference: float  # between two probabilities of the same class, 0..1
    mean_difference: float
    per_class: dict[str, float]  # change in accuracy, in points, by class
    keras: dict[str, float]  # top1, low and high in percent
    file: dict[str, float]


def compare(
    keras: np.ndarray, file: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> Parity:
    """Compare probabilities, float [n, classes] each, of images with the given labels, int [n]."""
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
        keras=accuracy(ours == labels),
        file=accuracy(theirs == labels),
    )


def accuracy(correct: np.ndarray) -> dict[str, float]:
    """Return top1, its 95 % interval and n from a bool array [n]; percent."""
    hits = int(correct.sum())
    top1 = wilson(hits, len(correct))
    return {"top1": top1.value, "low": top1.low, "high": top1.high, "n": len(correct)}
