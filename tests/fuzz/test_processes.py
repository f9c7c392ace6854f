"""The same as real processes, whose end the system tells: no traceback, no signal, no hang."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
from support.fuzzing import SECONDS, few_or
from support.runs import binary_rows

COMMAND = str(Path(sys.executable).with_name("ppl-vae"))
TABLE = ("a,b,c\n" + "".join(f"{i / 7:.3f},{i % 5},{'xy'[i % 2]}\n" for i in range(30))).encode()


def damaged(content: bytes, random: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(made))
        if random.random() < 0.3:
            del made[at + 1 :]
        elif random.random() < 0.5:
            made[at] ^= 1 << random.randrange(8)
        else:
            made[at:at] = random.randbytes(random.randint(1, 9))
    return bytes(made)


@few_or(100, few=3)
def test_processes(place: Path, count: int) -> None:
    pick = random.Random(0)
    np.save(place / "whole.npy", binary_rows(5))
    rows = (place / "whole.npy").read_bytes()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for i in range(count):
        file = place / ("process.npy" if i % 4 == 3 else "process.csv")
        file.write_bytes(damaged(rows if i % 4 == 3 else TABLE, pick))
        out = str(place / "process.npz")
        encode = ["encode", str(place / "run"), "--data", str(file), "--out", out]
        args = encode if i % 4 == 3 else ["describe", str(file)]
        done = subprocess.run([COMMAND, *args], capture_output=True, text=True, timeout=SECONDS, env=environment)
        assert done.returncode in (0, 2), (i, done)
        assert "Traceback" not in done.stdout + done.stderr, (i, done)
        if done.returncode == 2:
            assert done.stdout == ""
            assert "error: " in done.stderr
