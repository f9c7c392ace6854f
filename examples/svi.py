# %% [markdown]
"""A model file and a guide file in plain Pyro: SVI, Adam and Trace_ELBO, and nothing of this project's training.

Run `python examples/svi.py --epochs 5`. Prints the ELBO in nats per datum; `train` is the mean over an epoch in which
the parameters moved, `test` is at the epoch's end. Both are estimates from one draw of z per datum.
"""

# %%
import argparse
from collections.abc import Sequence

import pyro
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

from ppl_vae.data import open_data
from ppl_vae.guides.diagonal_normal import Guide
from ppl_vae.models.bernoulli import Model


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    data = open_data("mnist-5k")  # pixels in {0, 1}: binarized once
    (train,), (test,) = data.train, data.test
    with pyro.get_param_store().scope():  # the parameters live in Pyro's store, and only until this block ends
        pyro.set_rng_seed(args.seed)
        model, guide = Model(data.data_shape), Guide(data.data_shape)
        # ppl_vae.objectives.AnalyticKL_ELBO() can stand in the place of Trace_ELBO(): it is a pyro.infer.ELBO too.
        svi = SVI(model, guide, Adam({"lr": 1e-3}), loss=Trace_ELBO())
        for epoch in range(args.epochs):
            loss = sum(svi.step(x) for (x,) in data.batches("train", 100, epoch=epoch, seed=args.seed))
            train_elbo, test_elbo = -loss / len(train), -svi.evaluate_loss(test) / len(test)
            print(f"epoch {epoch + 1}  train {train_elbo:8.2f}  test {test_elbo:8.2f}")


# %%
if __name__ == "__main__":
    main([] if "get_ipython" in globals() else None)  # in a notebook settings stand in the list: ["--epochs", "5"]

# %% [markdown]
# The lines show that nothing of `ppl_vae` is needed to train its models and guides: they are Pyro programs, and the
# ELBO of the test digits rises from epoch to epoch.
