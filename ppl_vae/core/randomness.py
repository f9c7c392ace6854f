"""Torch's random numbers: seeded, and their state saved and restored."""

import hashlib

import torch
from torch import Tensor


def seed_torch(seed: int) -> None:
    """Seed every generator of torch.

    Torch's generator on the CPU, a Mersenne Twister, keeps the lower 32 bits of a seed: alone, 1 and 1 + 2**32 would
    be one seed. A seed below 2**32 is passed on as it is; a larger one is hashed to 32 bits (SHA-256), so that two
    seeds give the same numbers with a probability of 2**-32.
    """
    if seed >= 2**32:
        seed = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "big")
    torch.manual_seed(seed)


def random_state(device: str | torch.device) -> dict[str, Tensor]:
    """The states of the CPU's generator, as `rng`, and of that of `device`, as `rng.cuda` or the like."""
    states = {"rng": torch.get_rng_state()}
    place = torch.device(device)
    if place.type != "cpu":
        states[f"rng.{place.type}"] = torch.get_device_module(place).get_rng_state(place)
    return states


def restore_random_state(states: dict[str, Tensor], device: str | torch.device) -> None:
    """Put back what `random_state` returned; other tensors are ignored, and a device without a state keeps its own."""
    torch.set_rng_state(states["rng"])
    place = torch.device(device)
    if f"rng.{place.type}" in states:
        torch.get_device_module(place).set_rng_state(states[f"rng.{place.type}"], place)


def draw_seed(seed: int, batch: int, draw: int, stream: int) -> int:
    """One seed for every draw of a comparison: draws of one stream share their noise, those of two do not."""
    return (((seed * 1_000_003 + batch) * 1_000_003 + draw) * 1_009 + stream) % 2**63
