"""A network's outputs for batch after batch, with the next ones under way already."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

# Cores that wait for one another at the end of a layer compute another batch meanwhile.
_UNDER_WAY = 2


def outputs(
    network: "Callable[[tf.Tensor], np.ndarray]", batches: "Iterable[tf.Tensor]"
) -> Iterator[np.ndarray]:
    """Yield what `network` gives for each of `batches`, in order.

    Some batches are computed at once, and no more are taken than these, however many there are.
    """
    with ThreadPoolExecutor(_UNDER_WAY) as pool:
        begun = deque()
        for batch in batches:
            begun.append(pool.submit(network, batch))
            if len(begun) == _UNDER_WAY:
                yield begun.popleft().result()
        for output in begun:
            yield output.result()
