"""Many small pictures as one: a sheet that a page holds once and shows a part of."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

GREYS, COLORS = 16, 128  # in a sheet: four and seven bits a pixel, before they are compressed
MOST_PIXELS = 32  # of a side: larger pictures are shrunk


@dataclass(frozen=True)
class Sheet:
    """Pictures of `height` × `width` pixels, `columns` of them in each of `rows` lines, as a PNG in a data URI."""

    uri: str
    rows: int
    columns: int
    height: int
    width: int


def sheet(pictures: np.ndarray, columns: int, low: float = 0.0, high: float = 1.0) -> Sheet:
    """Pictures `(N, H, W)` with black for `high`, or colours `(N, H, W, 3)`; what is not a number is white paper."""
    shades = np.clip((pictures.astype(float) - low) / (high - low), 0, 1)
    shades = np.nan_to_num(shades if pictures.ndim == 4 else 1 - shades, nan=1.0)
    small = np.stack([np.asarray(_small(Image.fromarray(np.rint(255 * shade).astype(np.uint8)))) for shade in shades])
    height, width, *colors = small.shape[1:]
    rows = math.ceil(len(small) / columns)
    cells = np.full((rows * columns, height, width, *colors), 255, np.uint8)
    cells[: len(small)] = small
    whole = cells.reshape(rows, columns, height, width, *colors).swapaxes(1, 2)
    return Sheet(_png(whole.reshape(rows * height, columns * width, *colors)), rows, columns, height, width)


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    return image


def _png(pixels: np.ndarray) -> str:
    if pixels.ndim == 3:
        image, bits = Image.fromarray(pixels).quantize(COLORS), 8
    else:
        image, bits = Image.fromarray(np.rint(pixels / 255 * (GREYS - 1)).astype(np.uint8)).convert("P"), 4
        image.putpalette([shade * 255 // (GREYS - 1) for shade in range(GREYS) for _ in range(3)])
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, bits=bits)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
