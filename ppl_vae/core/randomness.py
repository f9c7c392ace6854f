"""Random numbers of torch, of numpy and of Python: seeded, and their state saved and restored."""

import contextlib
import hashlib
import random
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

NUMPY, PYTHON = "rng.numpy", "rng.python"


def seed_torch(seed: int) -> None:
    """Seed every generator of torch.

    Torch's generator on the CPU, a Mersenne Twister, keeps only the lower 32 bits of a seed, so that 1 and 1 + 2**32
    would give the same numbers. So a seed below 2**32 is passed on as it is, and a larger one is hashed to 32 bits
    (SHA-256): two seeds then give the same numbers with a probability of 2**-32.
    """
    torch.manual_seed(_of_32_bits(seed))


def seed_all(seed: int) -> None:
    """Seed torch, `numpy.random` and `random`."""
    seed_torch(seed)
    np.random.seed(_of_32_bits(seed))  # noqa: NPY002
    random.seed(seed)


@contextlib.contextmanager
def kept(seed: int | None = None) -> Iterator[None]:
    """Leave the random states of torch, of numpy and of Python behind as they were, and seed all of them in here."""
    theirs = of_numpy_and_python()
    try:
        with torch.random.fork_rng():
            if seed is not None:
                seed_all(seed)
            yield
    finally:
        restore_numpy_and_python(theirs)


def random_state(device: str | torch.device) -> dict[str, Tensor]:
    """The state of the CPU's generator, named `rng`, and that of the generator of `device`, named `rng.cuda` or so."""
    states = {"rng": torch.get_rng_state()}
    place = torch.device(device)
    if place.type != "cpu":
        states[f"rng.{place.type}"] = torch.get_device_module(place).get_rng_state(place)
    return states


def restore_random_state(states: dict[str, Tensor], device: str | torch.device) -> None:
    """Restore what `random_state` returned. Other tensors are ignored, and so is a device whose state is not in it."""
    torch.set_rng_state(states["rng"])
    place = torch.device(device)
    if f"rng.{place.type}" in states:
        torch.get_device_module(place).set_rng_state(states[f"rng.{place.type}"], place)


def of_numpy_and_python() -> dict[str, Tensor]:
    """The states of `numpy.random` and of `random`: 624 words, the place in them, and a normal draw that is left over.

    It takes some 50 microseconds, so that it is no part of `random_state`, which is asked for at each step.
    """
    _, (*own, at), over = random.getstate()
    states = {PYTHON: torch.tensor([*own, at, over is not None, _bits(over or 0.0)])}
    found = np.random.get_state(legacy=False)  # noqa: NPY002
    if found["bit_generator"] == "MT19937":  # the user may have put another in its place, which is then his
        words, place = found["state"]["key"].tolist(), found["state"]["pos"]
        states[NUMPY] = torch.tensor([*words, place, found["has_gauss"], _bits(found["gauss"])])
    return states


def restore_numpy_and_python(states: Mapping[str, Tensor]) -> None:
    """Restore what `of_numpy_and_python` returned; nothing where it is not among the states."""
    if NUMPY in states:
        *words, place, has, left = states[NUMPY].tolist()
        np.random.set_state(("MT19937", np.array(words, dtype=np.uint32), place, has, _float(left)))  # noqa: NPY002
    if PYTHON in states:
        *own, at, has, over = states[PYTHON].tolist()
        random.setstate((random.Random.VERSION, (*own, at), _float(over) if has else None))


def draw_seed(seed: int, batch: int, draw: int, stream: int) -> int:
    """The seed of one draw in a comparison. Draws of the same stream share their noise; those of two streams do not."""
    return (((seed * 1_000_003 + batch) * 1_000_003 + draw) * 1_009 + stream) % 2**63


def _of_32_bits(seed: int) -> int:
    return seed if seed < 2**32 else int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "big")


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))


def _float(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))
