"""`python -m support.small_streams` is `python -m ppl_vae` whose streams have small blocks and windows."""

import runpy

import pytest
from support.streamed import small_blocks

if __name__ == "__main__":
    small_blocks(pytest.MonkeyPatch())
    runpy.run_module("ppl_vae", run_name="__main__", alter_sys=True)
