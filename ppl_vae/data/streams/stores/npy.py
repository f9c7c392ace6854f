"""`.npy`: an array whose rows lie one behind the other in its file."""

import math
from pathlib import Path

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.data import sizes
from ppl_vae.data.streams.stores import Store


class Npy(Store):
    """An array, as `numpy.save` writes it.

    Its rows are read, and not mapped into memory: mapped pages count as memory of the process, and a file that becomes
    shorter would end it. An array in Fortran order, whose rows lie scattered, is mapped for the time of a reading.
    """

    name = ".npy"
    workers = 1

    def __init__(self, path: Path, where: str, key: str | None = None) -> None:
        if key is not None:
            raise InputError(f"{where} holds one array without a name: leave out :{key}")
        with path.open("rb") as file:
            shape, self.fortran, self.dtype = sizes.npy_header(file, where, path.stat().st_size)
            self.begin = file.tell()
        if not shape:
            raise InputError(f"{where} is a single number: give an array with rows")
        if not shape[0]:
            raise InputError(f"{where} is empty: its shape is {tuple(shape)}")
        if self.dtype.hasobject:
            raise InputError(f"{where} holds Python objects (a pickle); save it as numbers")
        self.where, self.rows, self.shape = where, shape[0], tuple(shape[1:])
        self.columns = ()
        self.edges = None
        self.path, self.files = path, (path,)

    def read(self, start: int, stop: int) -> np.ndarray:
        shape = (stop - start, *self.shape)
        if self.fortran:
            mapped = np.memmap(self.path, self.dtype, "r", self.begin, (self.rows, *self.shape), "F")
            return np.array(mapped[start:stop], order="C")
        size = math.prod(self.shape) * self.dtype.itemsize
        content = bytearray((stop - start) * size)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.begin + start * size)
            got, view = 0, memoryview(content)
            while got < len(content) and (more := file.readinto(view[got:])):
                got += more
        if got < len(content):
            raise EOFError("it is shorter than it was")
        return np.frombuffer(content, self.dtype).reshape(shape)
