import os
import threading
import time

import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.journal import Journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


def test_records_come_back(path):
    first = Journal(path, "a")
    assert not first.resumed
    first.add("round", times=[1, 2])
    first.add("round", times=[3])
    first.add("accuracy", model="m", value=1.5)
    first.close()
    again = Journal(path, "a")
    assert again.resumed
    assert [record["times"] for record in again.every("round")] == [[1, 2], [3]]
    assert again.find("accuracy", model="m")["value"] == 1.5
    assert again.find("accuracy", model="other") is None


def test_another_bench_starts_anew(path):
    first = Journal(path, "a")
    first.add("round", times=[1])
    first.close()
    other = Journal(path, "b")
    assert not other.resumed
    other.close()
    assert not Journal(path, "a").resumed


def test_every_torn_tail_is_left_out(path):
    whole = Journal(path, "a")
    for number in range(3):
        whole.add("round", number=number)
    whole.close()
    content = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content)):
        path.write_bytes(content[:length])
        torn = Journal(path, "a")
        kept = sum(end <= length for end in ends) - 1  # the first line is the key
        assert len(torn.records) == max(0, kept)
        torn.add("round", number=9)
        torn.close()
        assert Journal(path, "a").records[-1]["number"] == 9


def test_a_flipped_byte_ends_it(path):
    whole = Journal(path, "a")
    for number in range(3):
        whole.add("round", number=number)
    whole.close()
    content = bytearray(path.read_bytes())
    content[content.index(b'"number":1') + 9] = ord("7")
    path.write_bytes(content)
    assert [record["number"] for record in Journal(path, "a").records] == [0]


def test_two_processes_take_turns(path):
    first = Journal(path, "a")
    if not hasattr(os, "fork"):
        pytest.skip("no locks on this system")
    first.add("round", number=0)
    found, waited = [], []

    def second():
        journal = Journal(path, "a", waited.append)
        found.extend(journal.records)
        journal.close()

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.2)
    assert not found
    first.add("round", number=1)
    first.close()
    thread.join(10)
    assert [record["number"] for record in found] == [0, 1]
    assert waited


def test_without_a_path_it_only_remembers():
    journal = Journal(None, "a")
    journal.add("round", number=1)
    assert journal.find("round", number=1)
    journal.close()


def test_a_journal_whose_bench_ends_meanwhile_is_no_longer_one(path):
    """Or the rounds of a second bench would go into a file without a name."""
    first, failed = Journal(path, "a"), []

    def second():
        try:
            Journal(path, "b", on_wait=lambda text: path.unlink(missing_ok=True) or first.close())
        except EdgecifarError as error:
            failed.append(str(error))

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(timeout=30)
    assert ["another bench has ended there: start this one again" in text for text in failed] == [
        True
    ]
    assert not Journal(path, "b").resumed
