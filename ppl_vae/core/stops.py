"""Signals that end a process of the command line at once, in words."""

import os
import signal
from types import FrameType
from typing import NoReturn

WORDS = {signal.SIGINT: b"error: interrupted\n", signal.SIGTERM: b"error: terminated\n"}


def end(signum: int, frame: FrameType | None) -> NoReturn:
    """End with the exit code of the signal: 130 of Ctrl-C, 143 of SIGTERM.

    It raises nothing, since what is imported may pass over an exception, and go on broken. Files are whole or not there
    whenever a process ends.
    """
    os.write(2, WORDS[signal.Signals(signum)])
    os._exit(128 + signum)


def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    """Of Ctrl-C: `end` while something is imported; otherwise `KeyboardInterrupt`, after which it is tidied up."""
    inner = frame
    while inner is not None:
        if inner.f_code.co_filename.startswith("<frozen importlib"):
            end(signum, frame)
        inner = inner.f_back
    raise KeyboardInterrupt
