"""Work in a thread before it is asked for: in order, with its errors, and no thread left."""

import threading
import time

import pytest

from ppl_vae.data.ahead import ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("workers", [1, 3])
def test_items_come_in_order_and_the_next_are_begun(workers: int) -> None:
    begun = []

    def work(i: int) -> int:
        begun.append(i)
        time.sleep(0.002 * (i % 3))
        return i * i

    found = ahead(work, range(10), workers)
    assert next(found) == 0
    assert len(begun) <= workers + 1
    assert list(found) == [i * i for i in range(1, 10)]
    assert not threads()
    assert list(ahead(work, [], workers)) == []


def test_an_error_is_raised_where_its_item_is_asked_for() -> None:
    found = ahead(lambda i: 1 // i, [2, 1, 0, 5])
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert not threads()


def test_what_is_closed_early_leaves_no_thread() -> None:
    found = ahead(lambda i: i, range(100))
    next(found)
    found.close()
    assert not threads()
