"""The processes that torchrun, or another launcher that says the same in the environment, has started."""

import contextlib
import hashlib
import io
import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from ppl_vae.core.errors import InputError, NumericalError, ProcessLost, Told
from ppl_vae.data.protocol import Shard
from ppl_vae.training.distributed.world import World, answering
from ppl_vae.training.interrupt import Interrupted

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others."""
TOGETHER = ("fit", "resume", "evaluate", "encode", "score")
"""What several processes do together."""
_joined: list[World] = []


def world() -> World:
    """Those that this process trains with: by `joined`, or since the user has begun `torch.distributed`."""
    if _joined:
        return _joined[-1]
    if not dist.is_available() or not dist.is_initialized():
        return _known(World())
    return _known(World(Shard(dist.get_rank(), dist.get_world_size())))


def helpers() -> World:
    """Those that share the work of a verb other than a training: of the command line under torchrun alone."""
    return _joined[-1] if _joined else World()


def _known(here: World) -> World:
    """With the launchers of all processes."""
    here.launchers = sorted({name for name in here.gathered(_launcher()) if name})
    return here


def _launcher() -> str | None:
    """A name of the torchrun that has started this process, if one has: of its folder for logs, which is its own."""
    log = os.environ.get("TORCHELASTIC_ERROR_FILE")  # FOLDER/attempt_N/RANK/error.json
    if log is None or len(Path(log).parents) < 3:
        return None
    return hashlib.sha256(f"{socket.gethostname()} {Path(log).parents[2]}".encode()).hexdigest()[:16]


@contextlib.contextmanager
def joined(verb: str) -> Iterator[World]:
    """Be one of the processes that a launcher has started, and leave them at the end.

    Those that are not the first print nothing. An error before the training begins is told to all of them, so that it
    is printed once, and nobody waits.

    Raises:
        InputError: the verb is none that several processes do together.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    with answering():
        store, rank, size = _met()
        own = dist.PrefixStore(_start(store, rank, size), store)
        dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=TIMEOUT)
    here = _known(World(Shard(rank, size), launched=True))
    _joined.append(here)
    try:
        with contextlib.nullcontext() if here.first else _silent():
            try:
                if verb not in TOGETHER:
                    raise InputError(
                        f"{verb} is done by one process: start it without torchrun, which is for {', '.join(TOGETHER)}"
                    )
                yield here
            except (InputError, NumericalError) as error:
                if not here.begun and not error.common:
                    here.gathered(error)
                raise
    except (InputError, NumericalError, Interrupted) as error:
        common = isinstance(error, Told) and error.common
        alike = common or (here.begun and not isinstance(error, InputError))
        if alike:
            with contextlib.suppress(ProcessLost):
                here.wait()  # for the first, which may be writing: a launcher ends all when one of them has failed
        if here.first or not alike:
            raise
        raise SystemExit(error.exit_code) from None  # the first process tells it
    finally:
        _joined.remove(here)
        dist.destroy_process_group()


def _met() -> tuple[dist.Store, int, int]:
    """The store of all processes, this one's rank, and their number, once all of them have come.

    A thread of its own waits for them: torch does so outside of Python, where no signal would end this process.
    """
    found: Future[tuple[dist.Store, int, int]] = Future()

    def wait() -> None:
        try:
            found.set_result(next(dist.rendezvous("env://", timeout=TIMEOUT)))
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    return found.result()


def _start(store: dist.Store, rank: int, size: int) -> str:
    """A name of this start, which all of its processes have, and none of an earlier one.

    torchrun may keep one store, with what processes of before have said in it, and it counts starts on each machine for
    itself. So the first process makes a name, hears by it who the others are, and tells that they were heard.

    Raises:
        RuntimeError: they have not come in time.
    """
    mine, end = uuid.uuid4().hex, time.monotonic() + TIMEOUT.total_seconds()
    while time.monotonic() < end:  # and not in one long wait, which no signal would end
        if rank == 0:
            store.set("start", mine)
            if store.check([f"{mine} {other}" for other in range(1, size)]):
                store.set(f"{mine} all", " ".join(store.get(f"{mine} {other}").decode() for other in range(1, size)))
                return mine
        elif store.check(["start"]):
            name = store.get("start").decode()
            store.set(f"{name} {rank}", mine)
            if store.check([f"{name} all"]) and mine in store.get(f"{name} all").decode():
                return name
        time.sleep(0.02)
    raise RuntimeError(f"not all of the {size} processes have come within {TIMEOUT}")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
