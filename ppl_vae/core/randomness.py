"""Torch's random numbers: seeded, and their state saved and restored."""

import hashlib

import torch
from torch import Tensor


def seed_torch(seed: int) -> None:
    """Seed every generator of torch.

    Torch's generator on the CPU, a Mersenne Twister, keeps only the lower 32 bits of a seed, so that 1 and 1 + 2**32
    would give the same numbers. So a seed below 2**32 is passed on as it is, and a larger one is hashed to 32 bits
    (SHA-256): two seeds then give the same numbers with a probability of 2**-32.
    """
    if seed >= 2**32:
        seed = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "big")
    torch.manual_seed(seed)


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


def draw_seed(seed: int, batch: int, draw: int, stream: int) -> int:
    """The seed of one draw in a comparison. Draws of the same stream share their noise; those of two streams do not."""
    return (((seed * 1_000_003 + batch) * 1_000_003 + draw) * 1_009 + stream) % 2**63
