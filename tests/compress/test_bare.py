import tracemalloc

import numpy as np
import pytest

from edgecifar.compress.bare import probabilities


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_many_images_take_the_memory_of_one(digits, payloads, kind):
    """They may be memory-mapped, and more than memory holds."""
    payload = payloads[kind]
    first = digits.validation.images[:1]
    many = np.broadcast_to(first, (2000, *first.shape[1:]))
    tracemalloc.start()
    said = probabilities(payload, many)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said.shape == (2000, 10)
    assert peak < many.nbytes / 4
    np.testing.assert_array_equal(said, np.broadcast_to(probabilities(payload, first), said.shape))
