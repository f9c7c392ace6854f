"""What docs/performance.md shows of a captured step in Python trains; its ratios are those of its times."""

import math

import pytest
from support.pages import Page

PAGE = Page("performance.md")


@pytest.mark.slow
def test_the_program_trains() -> None:
    """The last batch's numbers are those of a fit that has begun: the ELBO is less the two parts, and has risen."""
    (program,) = (block.text for block in PAGE.blocks if block.language == "python")
    told: dict[str, float] = {}
    exec(program.replace("x.split(100)", "x.repeat(10, 1).split(100)"), told)
    assert told["value"] == told["elbo"]
    assert told["elbo"] / 100 == pytest.approx(-(told["rate"] + told["distortion"]) / 100, abs=5)
    assert -784 * math.log(2) < told["elbo"] / 100 < -784 * 0.2
    assert told["gradient_norm"] > 0


def test_the_ratios_are_those_of_the_times() -> None:
    """Medians of ratios over noisy rounds are near the ratios of medians."""
    rows = {row[0].strip("*"): row[1:] for row in PAGE.table("milliseconds")}
    ours = rows["ppl_vae, compiled"]
    faster = [
        min(pair, key=float)
        for pair in zip(rows["matrix products alone, torch"], rows["matrix products alone, oneDNN"], strict=True)
        if all(pair)
    ]
    for name, theirs in (
        ("ratio, compiled to Pyro", rows["Pyro's `SVI.step`"]),
        ("ratio, compiled to NumPyro", rows["NumPyro, jit and scan"]),
        ("ratio, compiled to `torch.compile`", rows["the same by `torch.compile`"]),
        ("ratio, compiled to the faster products", faster),
    ):
        for told, mine, other in zip(rows[name], ours, theirs, strict=False):
            if told:
                assert float(told) == pytest.approx(float(mine) / float(other), rel=0.25)
