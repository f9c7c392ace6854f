"""One seed for every draw of a comparison."""


def mixed(seed: int, batch: int, draw: int, stream: int) -> int:
    """Draws of one stream share their noise, those of two do not."""
    return (((seed * 1_000_003 + batch) * 1_000_003 + draw) * 1_009 + stream) % 2**63
