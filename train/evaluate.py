"""Predictions of a model on a split, and the figures that follow from them."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecifar.runtime.statistics import expected_calibration_error, wilson

if TYPE_CHECKING:
    import tf_keras as keras

    from edgecifar.train.data import Dataset, Split
    from edgecifar.train.run import Run


def predict(model: "keras.Model", split: "Split") -> np.ndarray:
    """Return class probabilities, float32 [n, classes], for the images of a split in order."""
    from edgecifar.train.pipeline import evaluation_batches, images_at_once

    batches = evaluation_batches(split, 1, batch_size=images_at_once(model))
    return model.predict(batches.map(lambda images, _: images), verbose=0).astype(np.float32)


def evaluate(
    model: "keras.Model", split: "Split", classes: Sequence[str]
) -> tuple[dict, np.ndarray]:
    """Return (figures as `metrics` gives them with the seconds it took, probabilities)."""
    start = time.perf_counter()
    probabilities = predict(model, split)
    seconds = time.perf_counter() - start
    return metrics(probabilities, split.labels, classes) | {"seconds": seconds}, probabilities


def metrics(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of a classifier as plain values, ready for JSON.

    `probabilities` float [n, classes], `labels` int [n]. top1, low and high are percent, the
    latter two Wilson's 95 % interval; loss is the mean cross-entropy in nats; ece the expected
    calibration error; confusion counts have the true class in rows.
    """
    likelihood = np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1)
    return {
        **answer_metrics(probabilities.argmax(axis=1), labels, classes),
        "loss": float(-np.log(likelihood).mean()),
        "ece": expected_calibration_error(probabilities, labels),
    }


def answer_metrics(
    predicted: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Return those of `metrics` that follow from the predicted classes alone, int [n]."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    indices = np.arange(len(classes))
    scores = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0.0)
    return {
        **accuracy(predicted == labels),
        "per_class": [
            {"name": name, "precision": p, "recall": r, "f1": f, "support": int(s)}
            for name, p, r, f, s in zip(classes, *(x.tolist() for x in scores), strict=True)
        ],
        "confusion": confusion_matrix(labels, predicted, labels=indices).tolist(),
    }


def accuracy(correct: np.ndarray) -> dict[str, float]:
    """Return top1, its 95 % interval and n from a bool array [n]; percent."""
    hits = int(correct.sum())
    top1 = wilson(hits, len(correct))
    return {"top1": top1.value, "low": top1.low, "high": top1.high, "n": len(correct)}


def evaluate_run(run: "Run", dataset: "Dataset", split: str) -> dict[str, Any]:
    """Measure a run's model on a split by name; store figures and predictions in the run."""
    from edgecifar.train.files import alone_in

    run.require_data(dataset)
    chosen = dataset.splits[split]
    with alone_in(run.path):  # where nothing can be written, it fails before the work
        figures, probabilities = evaluate(run.load_model(), chosen, dataset.classes)
        run.save_predictions(split, probabilities, chosen.labels)
        run.save_metrics({split: figures})
    return figures
