"""How a verb works: with how many threads, and by compiled functions or not."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ppl_vae.core.errors import InputError
from ppl_vae.core.threads import MOST, Threads, threads_of

if TYPE_CHECKING:
    from ppl_vae.graphs.calls import Compiling
    from ppl_vae.training.config import Compile


@contextmanager
def working(compile: "Compile", threads: Threads, progress: bool) -> Iterator["Compiling"]:
    """In here, torch has so many threads, and what is called often is compiled; with `progress` it is said how."""
    from ppl_vae.graphs.calls import compiling

    if compile not in ("auto", "on", "off"):
        raise InputError(f"compile is {compile!r}: it must be auto, on or off")
    if not (threads is None or threads == "auto" or (isinstance(threads, int) and 0 < threads <= MOST)):
        raise InputError(f"threads is {threads!r}: it must be a number from 1 to {MOST}, or auto")

    def say(line: str) -> None:
        if progress:
            print(line, file=sys.stderr)

    with threads_of(threads) as number, compiling(compile) as calls:
        if threads == "auto":
            say(f"threads: {number}, the fastest now")
        yield calls
    if calls.made:
        say(f"compiled: {', '.join(calls.made)}")
    for name, why in calls.refused.items():
        say(f"not compiled: {name}, {why}")
