"""Work that is done before it is asked for."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(work: Callable[[A], B], items: Iterable[A], workers: int = 1) -> Generator[B, None, None]:
    """The work on each of some items, in their order, begun on as many as there are threads before it is asked for.

    What the work raises, asking for it raises. The threads end with the iterator, be it closed before its end.
    """
    begun = deque[Future[B]]()
    pool = ThreadPoolExecutor(workers, "ahead")
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) > workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
