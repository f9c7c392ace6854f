"""Jobs of a sweep in several processes, which save their runs when it is stopped, and none of which outlives it."""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NoReturn, TypeVar

import joblib

from ppl_vae.core.errors import InputError
from ppl_vae.runs import lock
from ppl_vae.runs.sweeping import Job
from ppl_vae.training.interrupt import Interrupted

T = TypeVar("T")
LONGEST = 60.0
"""Seconds that the processes of a sweep have to save their runs when it is stopped."""


def in_processes(work: Callable[[Job], T], jobs: Sequence[Job], at_once: int, *, stopped: T) -> Iterator[T]:
    """What becomes of each job, in their order: one at a time here, or several, each with its share of threads.

    Args:
        stopped: what becomes of a job whose process alone was told to end.
    """
    at_once = min(at_once, len(jobs))  # a process without a run would be idle
    if at_once == 1:
        yield from map(work, jobs)
        return
    threads = max(1, joblib.cpu_count() // at_once)  # torch's threads spin, and would slow the neighbours down
    runs = [job.folder for job in jobs]
    with joblib.parallel_config(backend="loky", n_jobs=at_once, inner_max_num_threads=threads), stopping(runs):
        calls = (joblib.delayed(_in_process)(os.getpid(), Path.cwd(), work, job, stopped) for job in jobs)
        yield from joblib.Parallel(return_as="generator", batch_size=1)(calls)


def _in_process(parent: int, folder: Path, work: Callable[[Job], T], job: Job, stopped: T) -> T:
    """What becomes of a job whose paths are relative to `folder`: a process of an earlier sweep may stand elsewhere.

    A process that is to end saves the run that it trains, and then waits for its end, since no other job is to begin.
    """
    _end_after(parent)
    os.chdir(folder)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda signum, frame: _told_to_end.append(signum))
    with contextlib.suppress(Interrupted):
        if not _told_to_end:
            return work(job)
    time.sleep(2 * LONGEST)
    return stopped


@functools.cache
def _end_after(parent: int) -> None:
    """From now on, end this process of a sweep as soon as the one that has begun it is gone, however that has ended.

    It would train on, or wait for minutes for a job that never comes. Files are whole or not there whenever it ends.
    """

    def watch() -> NoReturn:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_told_to_end: list[int] = []
"""The signals that this process of a sweep has got while it trained nothing."""


@contextlib.contextmanager
def stopping(folders: Sequence[Path] = ()) -> Iterator[None]:
    """Ctrl-C, SIGTERM and the death of a process end the sweep, and its processes with it, in words.

    Args:
        folders: of its runs; those that are being trained are saved first.
    """
    caught: list[int] = []

    def end(signum: int, frame: object) -> NoReturn:
        caught.append(signum)
        if len(caught) == 1:
            _save(folders)
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = {signum: signal.signal(signum, end) for signum in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield
    except KeyboardInterrupt:
        which = caught[0] if caught else signal.SIGINT
        raise Interrupted(which, "stopped: the same command goes on with the sweep") from None
    except BrokenProcessPool as error:
        raise InputError(
            "a process of the sweep has died, perhaps for lack of memory: the same command goes on with the sweep; "
            "take fewer jobs"
        ) from error
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _save(folders: Sequence[Path]) -> None:
    """Have each process of the sweep save the run that it trains; not for longer than `LONGEST`."""
    started, processes = time.monotonic(), multiprocessing.active_children()
    ours = [each.pid for each in processes if each.pid and "loky" in type(each).__module__]
    while ours and time.monotonic() - started < LONGEST and any(map(lock.held, folders)):
        for pid in ours:  # again and again, since one that is about to train has taken no notice
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(0.5)
