"""A folder of pictures, each a file, that are decoded by several threads."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppl_vae.core.errors import InputError
from ppl_vae.data.streams.stores import Store

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
MODES = {"1": "L", "L": "L", "RGB": "RGB", "P": "RGB", "RGBA": "RGBA", "LA": "L", "CMYK": "RGB", "YCbCr": "RGB"}
"""What pictures of a mode of pillow are decoded to; others, such as 16 bits a pixel, are refused."""
WORKERS = min(8, os.cpu_count() or 1)


class Images(Store):
    """Pictures of one size, in the order of their names, also of those in folders within it.

    A grey picture is `(height, width)`, one of colours `(3 or 4, height, width)`; numbers are 0 to 255.
    """

    name = "folder of pictures"
    workers = WORKERS

    def __init__(self, path: Path, where: str, key: str | None = None) -> None:
        if key is not None:
            raise InputError(f"{where} is a folder: leave out :{key}")
        found = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        self.files = tuple(sorted(found, key=lambda file: file.as_posix()))
        if not self.files:
            raise InputError(f"{where} is a folder without .parquet files and without pictures ({', '.join(SUFFIXES)})")
        self.where, self.path, self.rows = where, path, len(self.files)
        self.columns = ()
        self.dtype, self.edges = np.dtype(np.uint8), None
        with self._opened(self.files[0]) as picture:
            self.size, self.mode = picture.size, self._mode(self.files[0], picture)
        channels = {"L": 1, "RGB": 3, "RGBA": 4}[self.mode]
        self.shape = (self.size[1], self.size[0]) if channels == 1 else (channels, self.size[1], self.size[0])

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.stack([self._decoded(file) for file in self.files[start:stop]])

    def _decoded(self, file: Path) -> np.ndarray:
        with self._opened(file) as picture:
            mode = self._mode(file, picture)
            if picture.size != self.size or mode != self.mode:
                raise InputError(
                    f"{self._told(file)} is {_size(picture.size)} in {mode}, but {self._told(self.files[0])} is "
                    f"{_size(self.size)} in {self.mode}: all pictures of a folder need one size and one kind of colour"
                )
            try:
                pixels = np.asarray(picture.convert(self.mode))
            except Exception as error:  # whatever pillow raises is about the file
                raise InputError(f"{self._told(file)} can't be read as a picture: {error}") from error
        return pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _opened(self, file: Path) -> "Image":
        from PIL import Image

        try:
            return Image.open(file)
        except Exception as error:  # whatever pillow raises is about the file
            raise InputError(f"{self._told(file)} can't be read as a picture: {error}") from error

    def _mode(self, file: Path, picture: "Image") -> str:
        if picture.mode not in MODES:
            raise InputError(f"{self._told(file)} has pixels of the kind {picture.mode}: save it in grey or RGB")
        return MODES[picture.mode]

    def _told(self, file: Path) -> str:
        return os.path.join(self.where, file.relative_to(self.path))


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]} pixels"
