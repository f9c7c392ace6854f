"""The memory that an epoch of a stream takes does not grow with the number of rows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EPOCH = """
import sys
from ppl_vae.data import as_data
data = as_data(sys.argv[1], stream="on")
rows = sum(len(x) for x, in data.batches("train", 500, epoch=0))
assert rows == data.lengths["train"]
with open("/proc/self/status") as lines:
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_an_epoch_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = {}
    for mebibytes in (128, 512):
        path = tmp_path / f"{mebibytes}.npy"
        np.lib.format.open_memmap(path, "w+", np.float32, (mebibytes * 1024, 256)).flush()  # zeros take no disk
        done = subprocess.run([sys.executable, "-c", EPOCH, str(path)], capture_output=True, text=True, check=True)
        peaks[mebibytes] = int(done.stdout) / 1024
    assert peaks[512] < peaks[128] + 32, f"MiB at the peak, by MiB of data: {peaks}"
    assert peaks[512] < 512 + 350, "it would hold them, and torch"
