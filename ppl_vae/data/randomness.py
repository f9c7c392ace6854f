"""Random numbers of the data: a generator of its own for each purpose, so that no draw depends on another."""

import hashlib
import operator
from typing import Any

import torch

from ppl_vae.core.errors import InputError


def generator(purpose: str, *seeds: int) -> torch.Generator:
    """A generator that depends on the purpose and the seeds only; seeds may be any integers."""
    numbers = [integer("seed", seed) for seed in seeds]
    digest = hashlib.sha256(repr((purpose, numbers)).encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:4], "big"))


def integer(name: str, value: Any) -> int:
    """The value as an int. Raises `InputError` for anything that is no integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{name}={value!r} must be an integer") from None
