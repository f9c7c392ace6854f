"""The memory that data take: as a stream, whose epoch does not grow with the number of rows, and where all are held."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EPOCH = """
data = as_data(sys.argv[1], stream="on")
rows = sum(len(x) for x, in data.batches("train", 500, epoch=0))
assert rows == data.lengths["train"]
"""
OPENED = """
data = as_data(sys.argv[1], stream="off", binarize=sys.argv[2])
data.describe()
data.moments()
data.extent()
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def peak(program: str, *arguments: str) -> float:
    """MiB that a process has taken at most."""
    program = f"""
import sys
from ppl_vae.data import as_data
{program}
with open("/proc/self/status") as lines:
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
"""
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


def test_the_memory_of_an_epoch_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = {}
    for mebibytes in (128, 512):
        path = tmp_path / f"{mebibytes}.npy"
        np.lib.format.open_memmap(path, "w+", np.float32, (mebibytes * 1024, 256)).flush()  # zeros take no disk
        peaks[mebibytes] = peak(EPOCH, str(path))
    assert peaks[512] < peaks[128] + 32, f"MiB at the peak, by MiB of data: {peaks}"
    assert peaks[512] < 512 + 350, "it would hold them, and torch"


@pytest.mark.parametrize(("binarize", "copies"), [("none", 2), ("once", 3)])
def test_data_in_memory_are_copied_where_they_are_split_and_drawn_and_nowhere_else(
    tmp_path: Path, binarize: str, copies: int
) -> None:
    peaks = {}
    for mebibytes in (64, 320):
        np.save(path := tmp_path / f"{mebibytes}.npy", np.full((mebibytes * 1024, 256), 0.5, "float32"))
        peaks[mebibytes] = peak(OPENED, str(path), binarize)
    grown = (peaks[320] - peaks[64]) / 256
    assert copies - 1 < grown < copies + 0.5, f"MiB at the peak, by MiB of data: {peaks}"
