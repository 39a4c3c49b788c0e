import pytest

from edgecifar.train.settings import Training, for_few_images


@pytest.mark.parametrize(
    ("count", "batch", "rate"),
    [(45_000, 256, 0.4), (1_300, 64, 0.1), (300, 8, 0.0125), (9, 8, 0.0125)],
)
def test_few_images_get_small_batches(count, batch, rate):
    found = for_few_images(Training(), count)
    assert (found.batch_size, found.learning_rate) == (batch, pytest.approx(rate))
    own = for_few_images(Training(learning_rate=0.3), count, rate_given=True)
    assert (own.batch_size, own.learning_rate) == (batch, 0.3)
    adam = for_few_images(Training(optimizer="adam", learning_rate=0.001), count)
    assert (adam.batch_size, adam.learning_rate) == (batch, 0.001)
    assert for_few_images(Training(batch_size=4), count).batch_size == 4


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        (Training(), 0.1),
        (Training(batch_size=512), 0.1),
        (Training(batch_size=8), 0.1 / 32),
        (Training(batch_size=8, optimizer="adam", learning_rate=0.001), 0.001),
    ],
)
def test_fine_tuning_goes_slower_with_small_batches(settings, rate):
    how = {"epochs": 2, "usual": 0.1, "ema": 0.0}
    assert settings.fine_tuning(learning_rate=None, **how).learning_rate == pytest.approx(rate)
    assert settings.fine_tuning(learning_rate=0.05, **how).learning_rate == 0.05
