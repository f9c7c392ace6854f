"""The command `ppl-vae`, also `python -m ppl_vae` as under torchrun: a signal ends it in words from first to last."""

import os
import signal
import sys

from ppl_vae.core.stops import WORDS, end


def main() -> int:
    """Run one verb of the command line; its exit code."""
    for signum in WORDS:
        if signal.getsignal(signum) != signal.SIG_IGN:  # as of Ctrl-C in the background of a shell
            signal.signal(signum, end)
    from ppl_vae import cli  # which takes a while

    if not cli.launched():
        return cli.main()
    try:
        code = cli.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # since threads of a process group may abort a process that ends in the ordinary way


if __name__ == "__main__":
    sys.exit(main())
