"""Threads that are chosen while a run is trained."""

import json

import torch
from torch import Tensor

from ppl_vae.core import threads
from ppl_vae.models import gaussian
from ppl_vae.runs import threads as chosen
from ppl_vae.runs.fitting import fit

ROWS = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))


def test_the_threads_of_a_run_are_noted_with_their_steps(tmp_path, monkeypatch):
    """Measured here as 1, 2, 2, 1, ...; a change is noted with the step after which it holds."""
    before, answers, seen = torch.get_num_threads(), iter([1, 2, 2, 1, *[1] * 100]), []

    def measure(most: int) -> int:
        return next(answers)

    monkeypatch.setattr(threads, "fastest", measure)
    monkeypatch.setattr(chosen, "fastest", measure)
    monkeypatch.setattr(chosen, "EVERY", -1.0)

    class Counting(gaussian.Model):
        def forward(self, x: Tensor) -> None:
            seen.append(torch.get_num_threads())
            super().forward(x)

    run = fit(Counting, "diagonal_normal", ROWS, tmp_path / "run", threads="auto", epochs=2, batch_size=10)
    record = json.loads((run.folder / "config.json").read_text())
    assert record["step"]["threads"] == [[0, 1], [1, 2], [3, 1]]
    assert record["fit"]["threads"] == "auto"
    assert set(seen) == {1, 2}
    assert torch.get_num_threads() == before
    last = run.checkpoints.steps[-1]
    fit(Counting, data=ROWS, out=run.folder, resume=True, epochs=3)
    again = json.loads((run.folder / "config.json").read_text())["step"]["threads"]
    assert again[:3] == record["step"]["threads"]
    assert again[3:] == [[last, 1]]
