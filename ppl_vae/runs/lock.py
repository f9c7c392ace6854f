"""Only one process may train a run: a lock of the operating system, which goes with its process, even a killed one."""

import contextlib
import errno
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ppl_vae.core.errors import InputError

FILE = ".lock"  # there only while the run is trained, or where its process was killed
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


class Held(InputError):
    """Another process trains the run."""


@contextlib.contextmanager
def training(folder: Path) -> Iterator[None]:
    """Hold the run in `folder` while it is trained. Where its file system has no locks, warn and go on.

    Raises:
        Held: another process trains it.
        InputError: the lock's file can't be written.
    """
    path = folder / FILE
    lock = FileLock(path, blocking=False, fallback_to_soft=False)  # a soft lock would outlive a killed process
    try:
        lock.acquire()
    except Timeout:
        raise Held(
            f"{folder} is being trained by {_holder(path)}: wait until it is done, or stop it; then ppl-vae resume "
            f"{folder} goes on"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise InputError(f"{path}, the lock for training, can't be written: {error.strerror}") from error
        path.unlink(missing_ok=True)
        warnings.warn(f"the file system of {folder} has no locks: see to it that nothing else trains it", stacklevel=4)
        yield
        return
    try:
        with contextlib.suppress(OSError):  # it only tells who trains
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}\n")
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is held: who has opened it sees that it has no name any more
            path.unlink()
        lock.release()


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        if told := path.read_text().strip():
            return told
    return "another process"
