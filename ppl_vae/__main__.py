"""`python -m ppl_vae`: the command line, also as torchrun starts it."""

import sys

from ppl_vae.cli import main

if __name__ == "__main__":
    sys.exit(main())
