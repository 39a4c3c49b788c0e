import pytest

from edgecifar.benchmarks import words

HEAD = {"train_seconds": 20.0, "feature_seconds": 5.0}


@pytest.mark.parametrize(
    ("info", "seconds"),
    [
        ({"train_seconds": 70.0}, 70),
        ({"train_seconds": 70.0, "head": HEAD, "transfer": {"unfreeze": 50}}, 95),
        ({"train_seconds": 20.0, "head": HEAD, "transfer": {"unfreeze": 0}}, 25),
        ({"train_seconds": 20.0, "head": HEAD, "dropped": {"train_seconds": 70.0}}, 95),
        ({"train_seconds": 70.0, "head": {"train_seconds": 20.0}}, 90),
    ],
    ids=["once", "both phases", "head alone", "second dropped", "features not timed"],
)
def test_training_time_is_that_of_all_phases_once(info, seconds):
    assert words.training_time(info) == f"{seconds}{words.SPACE}s"


def test_only_the_built_in_digits_are_called_so():
    assert words.on_digits("cifar10", "digits")
    assert not words.on_digits("house-digits", "cifar10")


def test_an_unknown_training_time_stays_unknown():
    assert words.training_time({}) == words.NOTHING
