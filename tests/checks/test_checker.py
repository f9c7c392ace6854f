"""`check`: each planted fault is found, at its site and line, with words that help to fix it; no trace is left."""

import time
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from support.planted_faults import FAULTS, Fault, check, find, real
from torch import Tensor, nn
from torch._subclasses import FakeTensor

import ppl_vae
from ppl_vae.checks.pair import check_pair
from ppl_vae.data import open_data
from ppl_vae.guides import diagonal_normal
from ppl_vae.models import gaussian
from ppl_vae.programs import resolve_pair

SMALL = {"latent_dim": 2, "hidden": 4}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(tmp_path, name):
    fault = FAULTS[name]
    report = find(fault, tmp_path)
    assert report.passed == (fault.level == "warning"), report
    found = [f for f in report.findings if f.level == fault.level and all(word in f.message for word in fault.words)]
    assert found, report
    if fault.level == "error":
        assert found[0] is report.errors[0], report
    assert found[0].site == fault.site
    assert len(found[0].message.splitlines()) == 1
    assert_line(found[0].where, tmp_path / "vae.py", fault)


def assert_line(where: str | None, file: Path, fault: Fault) -> None:
    """The statement of the site, or the one that the fault says; or the file; a parameter or a column has none."""
    if where is None:
        assert "guide.idle" in fault.words[0] or fault.words[0].startswith("column")
        return
    path, _, line = where.rpartition(":") if where != str(file) else (where, "", "")
    assert path == str(file)
    statement = file.read_text().splitlines()[int(line or 1) - 1]
    assert fault.line in statement
    if fault.site and not fault.line:
        assert any(
            f"pyro.{kind}({quoted}" in statement for kind in ("sample", "plate") for quoted in _quoted(fault.site)
        )
    assert bool(line) == bool(fault.site or fault.line)


def _quoted(site: str) -> tuple[str, str]:
    return f"'{site}'", f'"{site}"'


def test_the_file_without_a_fault_has_no_findings(tmp_path):
    assert find(Fault({}, None, []), tmp_path).findings == ()


def test_a_report_reads_well_in_a_test_of_ones_own(tmp_path):
    file = tmp_path / "vae.py"
    file.write_text(FAULTS["the prior lacks to_event"].text())
    report = ppl_vae.check(file, file, real())
    assert not report.passed
    error, verdict = str(report).splitlines()
    assert error.startswith("error: the model fails")
    assert error.endswith(f"({file}:20)")
    assert verdict == "this pair is not a VAE for this data"
    (finding,) = report.asdict()["findings"]
    assert (finding["level"], finding["site"], finding["where"]) == ("error", "z", f"{file}:20")


def test_the_verb_also_captures_and_fit_does_not(tmp_path):
    file = tmp_path / "vae.py"
    file.write_text(FAULTS["len(x) as the plate's size"].text())
    assert len(ppl_vae.check(file, file, real()).findings) == 1
    dataset = open_data(real())
    assert check_pair(resolve_pair(str(file), str(file), dataset.train), dataset).findings == ()


def test_a_module_that_a_function_does_not_register_would_not_be_trained():
    decoder = nn.Linear(2, 5)

    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)

    report = check(model, diagonal_normal.Guide((5,), latent_dim=2, hidden=4), open_data(real()))
    assert "pyro.module" in report.errors[0].message
    assert report.errors[0].site == "x"
    assert report.errors[0].where.startswith(f"{__file__}:")


def test_nothing_to_train_is_an_error(tmp_path):
    frozen = {f"nn.Linear({sizes})": f"nn.Linear({sizes}).requires_grad_(False)" for sizes in ("2, 5", "5, 2")} | {
        f'        pyro.module("{kind}", self)\n': "" for kind in ("model", "guide")
    }
    (error,) = find(Fault(frozen, None, []), tmp_path).errors
    assert "nothing to train" in error.message


class Moving(gaussian.Model):
    """What every pass moves: buffers in place and by assignment, and an attribute that keeps a tensor."""

    def __init__(self, data_shape: tuple[int, ...], latent_dim: int = 2, hidden: int = 4) -> None:
        super().__init__(data_shape, latent_dim, hidden)
        self.norm = nn.BatchNorm1d(latent_dim)
        self.register_buffer("passes", torch.zeros(()))
        self.kept = torch.zeros(())

    def likelihood(self, z: Tensor) -> dist.Distribution:
        self.passes = self.passes + 1
        self.kept = z
        return super().likelihood(self.norm(z.reshape(-1, self.latent_dim)).reshape(z.shape))


def test_check_leaves_no_trace():
    dataset = open_data(real())
    pair = resolve_pair(Moving, "diagonal_normal", dataset.train, SMALL)
    modules = nn.ModuleList([pair.model, pair.guide])
    state = {name: (tensor, tensor.clone()) for name, tensor in modules.state_dict(keep_vars=True).items()}
    rng = torch.get_rng_state()
    assert check_pair(pair, dataset, thorough=True).passed
    assert torch.equal(torch.get_rng_state(), rng)
    assert not list(pyro.get_param_store().keys())
    assert pyro.settings.get("validate_distributions_pyro")
    for name, tensor in modules.state_dict(keep_vars=True).items():
        assert tensor is state[name][0], name
        assert torch.equal(tensor, state[name][1]), name
    assert all(p.grad is None for p in modules.parameters())
    assert not isinstance(pair.model.kept, FakeTensor)
    assert all(m.training for m in modules.modules())


def test_a_check_that_itself_fails_is_a_finding(monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("ppl_vae.checks.rows._mixes", broken)
    (error,) = check("gaussian", "diagonal_normal", open_data(real()), **SMALL).errors
    assert "the pair fails where it is checked (no row's" in error.message.lower()
    assert "boom" in error.message


def test_what_fit_checks_takes_well_under_two_seconds_at_the_size_of_mnist():
    grey = np.random.default_rng(0).uniform(size=(5000, 784)).astype("float32")
    dataset = open_data(grey, binarize="once")
    pair = resolve_pair("bernoulli", "diagonal_normal", dataset.train, {})
    start = time.process_time()
    assert check_pair(pair, dataset).findings == ()
    assert time.process_time() - start < 2
