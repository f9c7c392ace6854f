"""Ctrl-C while something is imported, and at any other moment, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

SEND = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
SWALLOWS = f"try:\n    {SEND}\nexcept BaseException:\n    pass\nprint('goes on')"
"""What some extension modules do while they are imported."""


TIDIES = f"try:\n    {SEND}\nfinally:\n    print('tidied')"


@pytest.mark.parametrize(
    ("code", "end"), [("import swallows", "interrupted"), (SWALLOWS, "goes on"), (TIDIES, "tidied")]
)
def test_ctrl_c(tmp_path: Path, code: str, end: str) -> None:
    (tmp_path / "swallows.py").write_text(SWALLOWS)
    begin = "import signal\nfrom ppl_vae.core.stops import interrupt\nsignal.signal(signal.SIGINT, interrupt)\n"
    command = [sys.executable, "-c", begin + code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    if end == "interrupted":
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")
    else:
        assert done.stdout == f"{end}\n", "it is a KeyboardInterrupt"
