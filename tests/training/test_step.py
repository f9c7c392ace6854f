"""One step is Pyro's own, its clipping torch's, and an evaluation weights every row alike."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from support.fits import ROWS, SET, STEPS, FromData, small
from torch import Tensor, nn

from ppl_vae.core.errors import NumericalError
from ppl_vae.data import open_data
from ppl_vae.guides import diagonal_normal
from ppl_vae.models import linear_gaussian
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import owned, resolve_pair
from ppl_vae.programs.scores import batches
from ppl_vae.training.evaluation import evaluate
from ppl_vae.training.prepare import isolated
from ppl_vae.training.step import Trainer

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def test_follows_svi_step_for_step(tmp_path):
    dataset = open_data(ROWS)
    epochs = 10
    batches = [batch for epoch in range(epochs) for batch in dataset.batches("train", 10, epoch=epoch, seed=3)]
    assert len(batches) == 50

    with isolated(3):
        trainer = Trainer(resolve_pair("gaussian", "diagonal_normal", dataset.train, SET), Trace_ELBO(), lr=1e-2)
        ours = [trainer.step(batch).elbo for batch in batches]

    def mean(program: nn.Module) -> Any:
        return lambda x: poutine.scale(program, 1 / len(x))(x)

    with isolated(3):
        pair = resolve_pair("gaussian", "diagonal_normal", dataset.train, SET)
        svi = SVI(mean(pair.model), mean(pair.guide), pyro.optim.Adam({"lr": 1e-2}), pyro.infer.Trace_ELBO())
        theirs = [-svi.step(*batch) for batch in batches]

    sizes = [len(batch[0]) for batch in batches]
    assert [e / n for e, n in zip(ours, sizes, strict=True)] == pytest.approx(theirs, rel=1e-5)

    metrics = small(tmp_path / "run", epochs=epochs, seed=3).metrics[1:]
    of_epochs = [sum(ours[i : i + STEPS]) / 48 for i in range(0, 50, STEPS)]
    assert [line["train"]["elbo"] for line in metrics] == of_epochs
    gaps = [m["train"]["rate"] + m["train"]["distortion"] + m["train"]["elbo"] for m in metrics]
    assert all(0 < abs(gap) < 1 for gap in gaps), "the rate is a closed form: the ELBO's in expectation alone"


def test_evaluate_weights_every_row_alike():
    rows = torch.randn(23, 5, dtype=torch.float64)
    pair = resolve_pair("linear_gaussian", "linear_gaussian", (rows,), {"latent_dim": 2})
    pair.model.double()
    exact = linear_gaussian.Model.log_px(pair.model, rows).detach()  # type: ignore[arg-type]
    rng = torch.get_rng_state()
    for size in (1, 5, 23, 100):
        torch.set_rng_state(rng)
        seen = evaluate(pair, Trace_ELBO(), batches((rows,), size), seed=1)
        assert torch.equal(torch.get_rng_state(), rng)
        assert seen.elbo.tolist() == pytest.approx(exact.tolist(), rel=1e-9)
        assert seen.summary()["elbo"] == pytest.approx(exact.mean().item(), rel=1e-9)
        assert seen.summary()["elbo_se_data"] == pytest.approx(exact.std().item() / 23**0.5, rel=1e-9)
    assert math.isnan(evaluate(pair, Trace_ELBO(), batches((rows[:1],), 5), seed=1).summary()["elbo_se_data"])


class Narrow(diagonal_normal.Guide):
    """So narrow that its draw is its mean."""

    def posterior(self, x: Tensor) -> dist.Distribution:
        return dist.Normal(super().posterior(x).mean, 1e-9).to_event(1)


def test_evaluate_neither_depends_on_nor_moves_a_batchnorm():
    rows = torch.randn(23, 5)
    torch.manual_seed(1)
    pair = resolve_pair(FromData, Narrow, (rows,), {"guide.hidden": 8, "latent_dim": 2})
    pair.guide.train(False)
    state = {name: tensor.clone() for name, tensor in owned(pair.model, pair.guide)}
    whole = evaluate(pair, Trace_ELBO(), batches((rows,), 23), seed=1).distortion
    parts = evaluate(pair, Trace_ELBO(), batches((rows,), 1), seed=1).distortion
    assert parts.tolist() == pytest.approx(whole.tolist(), rel=1e-5)
    assert pair.model.training
    assert not pair.guide.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in owned(pair.model, pair.guide))


def test_a_step_moves_a_batchnorm_once() -> None:
    """As the module itself does, at the draw of the step, and only if the step is taken."""
    rows = torch.randn(23, 5)
    pair = resolve_pair(FromData, Narrow, (rows,), {"guide.hidden": 8, "latent_dim": 2})
    trainer = Trainer(pair, Trace_ELBO())
    alone = nn.BatchNorm1d(2)
    for _ in range(3):
        with torch.no_grad():
            alone(pair.guide.posterior(rows).mean)
        trainer.step((rows,))
        torch.testing.assert_close(pair.model.norm.running_mean, alone.running_mean)
        torch.testing.assert_close(pair.model.norm.running_var, alone.running_var)
    assert pair.model.norm.num_batches_tracked == 3
    before = pair.model.norm.running_mean.clone()
    with isolated(), pytest.raises(NumericalError):
        trainer.step((torch.full_like(rows, torch.nan),))
    assert torch.equal(pair.model.norm.running_mean, before)


def test_clip_is_that_of_torch():
    dataset = open_data(ROWS)
    pair = resolve_pair("gaussian", "diagonal_normal", dataset.train, SET)
    trainer = Trainer(pair, Trace_ELBO(), clip=0.5)
    trainer.optimizer.step = lambda: None  # type: ignore[assignment, method-assign]
    parameters = list(trainer.parameters.values())

    def gradients(clip: float | None) -> tuple[float, Tensor]:
        trainer.clip = clip
        torch.manual_seed(0)
        norm = trainer.step(dataset.valid).gradient_norm
        return norm, torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])

    norm, plain = gradients(None)
    assert norm == pytest.approx(plain.norm().item())
    assert norm > 0.5
    norm_before, ours = gradients(0.5)
    assert norm_before == norm, "the norm that is reported is that before clipping"
    assert ours.norm().item() == pytest.approx(0.5)
    gradients(None)
    nn.utils.clip_grad_norm_(parameters, 0.5)
    theirs = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=0)
    assert torch.equal(gradients(2 * norm)[1], plain), "a smaller gradient stays as it is"
