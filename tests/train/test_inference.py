import itertools
import threading

import pytest

from edgecifar.train.inference import outputs


def test_outputs_come_in_order_with_two_under_way():
    together = threading.Barrier(2, timeout=20)

    def network(batch):
        together.wait()  # or it breaks: no second batch is computed meanwhile
        return 10 * batch

    taken = []
    batches = (taken.append(number) or number for number in itertools.count())
    found = outputs(network, batches)
    assert list(itertools.islice(found, 4)) == [0, 10, 20, 30]
    assert len(taken) <= 6
    together.abort()
    found.close()


def test_all_batches_are_computed_and_what_one_raises_comes_out():
    assert list(outputs(lambda batch: batch, range(5))) == [0, 1, 2, 3, 4]
    assert list(outputs(lambda batch: batch, [])) == []
    with pytest.raises(ZeroDivisionError):
        list(outputs(lambda batch: 1 // batch, [2, 1, 0, 1]))
