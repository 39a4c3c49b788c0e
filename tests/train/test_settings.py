import pytest

from edgecifar.train.settings import (
    Augmentation,
    Training,
    for_few_images,
    for_large_images,
    with_wider_crops,
)


@pytest.mark.parametrize(
    ("count", "batch", "rate"),
    [(45_000, 256, 0.4), (1_300, 64, 0.1), (300, 8, 0.0125), (9, 8, 0.0125), (5, 5, 1 / 128)],
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
    ("size", "batch", "rate", "crop"),
    [
        ((32, 32), 256, 0.4, 4),
        ((64, 64), 256, 0.4, 8),
        ((96, 128), 64, 0.1, 12),
        ((224, 224), 16, 0.025, 28),
        ((9, 9), 256, 0.4, 4),
        ((2048, 2048), 8, 0.0125, 256),
    ],
)
def test_large_images_get_small_batches_and_wide_crops(size, batch, rate, crop):
    found = for_large_images(Training(), size)
    assert (found.batch_size, found.learning_rate) == (batch, pytest.approx(rate))
    assert for_large_images(Training(), size, rate_given=True).learning_rate == 0.4
    assert with_wider_crops(Training(), size) == Training(augment=Augmentation(crop=crop))
    still = Training(augment=Augmentation(crop=0))
    assert with_wider_crops(still, size) == still


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
