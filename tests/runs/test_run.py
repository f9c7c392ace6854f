"""The run folder: what it holds, who may execute what, and that nothing is half there."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from ppl_vae.core.errors import InputError
from ppl_vae.data import open_data
from ppl_vae.guides import diagonal_normal
from ppl_vae.models import gaussian
from ppl_vae.objectives import Trace_ELBO
from ppl_vae.programs import Pair, owned
from ppl_vae.programs.find import sha256_of, shipped_folder
from ppl_vae.programs.scores import batches
from ppl_vae.runs.fitting import fit
from ppl_vae.runs.run import Run
from ppl_vae.training.evaluation import evaluate

ROWS = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
OPTIONS: dict[str, Any] = {"epochs": 1, "batch_size": 10, "set": {"hidden": 4, "latent_dim": 2}}


def own_file(folder: Path, mark: Path | None = None) -> Path:
    """A model that is not shipped; with `mark`, one that leaves a file there whenever it is executed."""
    path = folder / "mine.py"
    effect = "" if mark is None else f"with open({str(mark)!r}, 'a') as file: file.write('executed')\n"
    path.write_text((shipped_folder("model") / "gaussian.py").read_text() + effect)
    return path


def weights(pair: Pair) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in owned(pair.model, pair.guide, pair.borrower)}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- trust ----


def test_a_program_of_ones_own_runs_only_if_named_or_trusted(tmp_path):
    mark = tmp_path / "mark"
    file = own_file(tmp_path, mark)
    run = fit(str(file), "diagonal_normal", ROWS, tmp_path / "run", **OPTIONS)
    assert mark.read_text() == "executed", "once in a fit"
    mark.unlink()

    with pytest.raises(InputError) as refusal:
        run.pair()
    assert f"--model {file}" in str(refusal.value)
    assert "--trust" in str(refusal.value)
    assert not mark.exists()

    named = weights(run.pair(model=str(file)))
    assert mark.exists()
    source = run.folder / run.record["programs"]["model"]["source"]
    assert source.read_bytes() == file.read_bytes()
    assert run.trusted() == [f"{source} (sha256 {sha256_of(file)})"]
    file.unlink()
    pair = run.pair(trust=True)
    assert same(weights(pair), named)
    assert pair.sources["model"].path == source.resolve()
    assert pair.sources["guide"].path == (shipped_folder("guide") / "diagonal_normal.py").resolve()


def test_naming_a_program_again_once_is_enough(tmp_path):
    mark = tmp_path / "mark"
    file = own_file(tmp_path, mark)
    run = fit(str(file), "diagonal_normal", ROWS, tmp_path / "run", **OPTIONS)
    with pytest.raises(InputError, match="name it again, once"):
        run.pair()
    named = weights(run.pair(model=str(file)))
    mark.unlink()
    assert same(weights(Run(run.folder).pair()), named), "by the file that was named"
    assert mark.exists()

    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    with pytest.raises(InputError, match="name it again, once"):
        Run(copy).pair()
    file.write_text(file.read_text() + "\n# edited\n")
    with pytest.raises(InputError, match="name it again, once"):
        run.pair()


def test_an_edited_program_is_refused_without_force_and_not_executed(tmp_path):
    mark = tmp_path / "mark"
    file = own_file(tmp_path, mark)
    run = fit(str(file), "diagonal_normal", ROWS, tmp_path / "run", **OPTIONS)
    mark.unlink()
    file.write_text(file.read_text() + "\n# edited\n")
    with pytest.raises(InputError, match=r"is not what .* was fitted with") as refusal:
        run.pair(model=str(file))
    assert "--force" in str(refusal.value)
    with pytest.raises(InputError, match=r"is not what .* was fitted with"):
        fit(str(file), data=ROWS, out=run.folder, resume=True)
    assert not mark.exists()
    run.pair(model=str(file), force=True)
    assert mark.exists()

    source = run.folder / run.record["programs"]["model"]["source"]
    run.pair(trust=True)
    source.write_text(source.read_text() + "\n# edited\n")
    mark.unlink()
    with pytest.raises(InputError, match="is not what"):
        run.pair(trust=True)
    assert not mark.exists()
    source.unlink()
    with pytest.raises(InputError, match="no such file"):
        run.trusted()
    with pytest.raises(InputError, match="no such file"):
        run.pair(trust=True)


def test_shipped_programs_come_from_the_package(tmp_path):
    """Even where the run was fitted to a copy of them; what lies in RUN/sources is not executed."""
    copy = tmp_path / "gaussian.py"
    copy.write_bytes((shipped_folder("model") / "gaussian.py").read_bytes())
    run = fit(str(copy), "diagonal_normal", ROWS, tmp_path / "run", **OPTIONS)
    copy.unlink()
    for source in (run.folder / "sources").iterdir():
        source.write_text("raise SystemExit('executed')")
    pair = run.pair()
    assert pair.sources["model"].path == (shipped_folder("model") / "gaussian.py").resolve()
    assert run.trusted() == []


@pytest.mark.parametrize("attribute", ["torch.os.system", "prod", "Model.forward", "nn.Linear"])
def test_a_forged_run_leads_to_nothing_that_a_shipped_file_imports(tmp_path, attribute):
    run = fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", **OPTIONS)
    record = json.loads((run.folder / "config.json").read_text())
    record["programs"]["model"]["attribute"] = attribute
    (run.folder / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="not a shipped one: name it again"):
        Run(run.folder).pair()
    assert len(Run(run.folder).trusted()) == 1, "and what --trust would execute is shown"


def test_a_shipped_program_that_has_changed_since_is_refused(tmp_path):
    run = fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", **OPTIONS)
    record = json.loads((run.folder / "config.json").read_text())
    record["programs"]["guide"]["sha256"] = "0" * 64
    (run.folder / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"guide .* is not what"):
        Run(run.folder).pair()
    Run(run.folder).pair(force=True)


def test_objects_from_python_are_given_again(tmp_path):
    model, guide = gaussian.Model((4,), 2, 4), diagonal_normal.Guide((4,), 2, 4)
    run = fit(model, guide, ROWS, tmp_path / "run", epochs=1, batch_size=10)
    with pytest.raises(InputError, match="given from Python: give it again as model="):
        run.pair(trust=True)
    with pytest.raises(InputError, match="given from Python: give data= again"):
        run.data()
    pair = run.pair(model=gaussian.Model((4,), 2, 4), guide=diagonal_normal.Guide((4,), 2, 4), checkpoint="last")
    assert same(weights(pair), weights(Pair(model, guide, pair.sources, pair.borrower)))
    with pytest.raises(InputError, match="give the programs the settings that they were saved with"):
        run.pair(model=gaussian.Model((4,), 3, 4), guide=guide)
    with pytest.raises(InputError, match="give the programs that were saved"):
        run.pair(model="linear_gaussian", guide=guide)


# ---- kinds of programs ----


BOTH = """\
import pyro
import pyro.distributions as dist
import torch
from torch import nn

class VAE(nn.Module):
    def __init__(self, data_shape, latent_dim=2):
        super().__init__()
        self.latent_dim = latent_dim
        self.decoder = nn.Linear(latent_dim, *data_shape)
        self.encoder = nn.Linear(*data_shape, latent_dim)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.latent_dim), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(self.encoder(x), 0.5).to_event(1))
"""


def test_one_file_that_holds_both_programs(tmp_path):
    file = tmp_path / "both.py"
    file.write_text(BOTH)
    specs = f"{file}:VAE.model", f"{file}:VAE.guide"
    options = OPTIONS | {"set": {"latent_dim": 3}}
    whole = fit(*specs, ROWS, tmp_path / "whole", **options | {"epochs": 2})
    run = fit(*specs, ROWS, tmp_path / "run", **options)
    assert len(list((run.folder / "sources").iterdir())) == 1
    assert len(run.trusted()) == 1
    with pytest.raises(InputError, match="--model"):
        run.pair()
    with pytest.raises(InputError, match="--model"):
        fit(data=ROWS, out=run.folder, resume=True, epochs=2)
    file.unlink()
    fit(data=ROWS, out=run.folder, resume=True, epochs=2, trust=True)
    trained = weights(run.pair(trust=True, checkpoint="last"))
    assert same(trained, weights(whole.pair(trust=True, checkpoint="last")))
    assert not same(trained, weights(run.pair(trust=True, checkpoint="first")))
    assert trained["model.owned.decoder.weight"].shape == (4, 3)


DECODER = nn.Linear(2, 4)


def model(x: Tensor) -> None:
    pyro.module("decoder", DECODER)
    sigma = pyro.param("sigma", torch.ones(4), constraint=constraints.positive)
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(DECODER(z), sigma).to_event(1), obs=x)


def guide(x: Tensor) -> None:
    loc = pyro.param("loc", lambda: torch.randn(4, 2) / 10)
    scale = pyro.param("scale", torch.ones(2), constraint=constraints.greater_than(1e-3))
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal(x @ loc, scale).to_event(1))


def test_plain_functions_with_modules_and_params(tmp_path):
    start = {name: tensor.clone() for name, tensor in DECODER.state_dict().items()}
    whole = fit(model, guide, ROWS, tmp_path / "whole", epochs=3, batch_size=10)
    wanted, _ = whole.checkpoints.load(whole.checkpoints.steps[-1])
    assert {n for n in wanted if n[:6] in ("model.", "guide.")} == {
        "model.owned.decoder.weight",
        "model.owned.decoder.bias",
        "model.free.sigma",
        "guide.free.loc",
        "guide.free.scale",
    }
    first, _ = whole.checkpoints.load(0)
    assert all(not torch.equal(wanted[n], first[n]) for n in wanted if n[:6] in ("model.", "guide.")), "all trained"

    DECODER.load_state_dict(start)
    run = fit(model, guide, ROWS, tmp_path / "run", epochs=1, batch_size=10)
    DECODER.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in start.items()})
    fit(model, guide, ROWS, run.folder, resume=True, epochs=3)
    assert same(run.checkpoints.load(run.checkpoints.steps[-1])[0], wanted)
    pair = run.pair(model=model, guide=guide, checkpoint="last")
    assert same(weights(pair), {n: t for n, t in wanted.items() if n[:6] in ("model.", "guide.")})
    assert not list(pyro.get_param_store().keys())


def test_loading_leaves_the_process_as_it_was(tmp_path):
    run = fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", **OPTIONS)
    rng = torch.get_rng_state()
    pair = run.pair()
    assert torch.equal(torch.get_rng_state(), rng)
    assert pyro.settings.get("validate_distributions_pyro")
    assert not any(module.training for program in (pair.model, pair.guide) for module in program.modules())


def test_a_pair_from_a_run_evaluates_as_it_did_when_it_was_saved(tmp_path):
    run = fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", **OPTIONS)
    valid = run.data(ROWS).valid
    for checkpoint, line in (("first", run.metrics[0]), ("last", run.metrics[-1])):
        seen = evaluate(run.pair(checkpoint=checkpoint), Trace_ELBO(), batches(valid, 10), 20_131_220)
        assert seen.summary()["elbo"] == line["valid"]["elbo"]


# ---- the folder ----


@pytest.mark.parametrize("kind", ["a folder with something in it", "a file"])
def test_what_exists_is_not_touched(tmp_path, kind):
    out = tmp_path / "run"
    if kind == "a file":
        out.write_text("precious")
    else:
        out.mkdir()
        (out / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="exists: choose another --out"):
        fit("gaussian", "diagonal_normal", ROWS, out, **OPTIONS)
    assert [p.read_text() for p in tmp_path.rglob("*") if p.is_file()] == ["precious"]


def test_an_empty_folder_is_used_and_parents_are_made(tmp_path):
    (tmp_path / "run").mkdir()
    fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", **OPTIONS)
    fit("gaussian", "diagonal_normal", ROWS, tmp_path / "a" / "b", **OPTIONS)
    with pytest.raises(InputError, match="can't be made"):
        fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run" / "config.json" / "c", **OPTIONS)


def test_config_json(tmp_path):
    file = tmp_path / "rows.npy"
    np.save(file, ROWS)
    run = fit("gaussian", "diagonal_normal", file, tmp_path / "run", **OPTIONS, lr=0.01)
    record = json.loads((run.folder / "config.json").read_text())
    assert record["format"] == 1
    assert record["versions"]["torch"] == str(torch.__version__)
    assert record["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["fit"]["data"] == [str(file)]
    assert record["fit"]["set"] == ["hidden=4", "latent_dim=2"]
    assert (record["fit"]["lr"], record["fit"]["epochs"]) == (0.01, 1)
    assert record["batch"] == {"fields": ["x"], "rows": 32, "shapes": [[4]], "dtypes": ["float32"]}
    assert record["data"] == {
        "name": "rows.npy",
        "sha256": open_data(ROWS).sha256,
        "rows": [32, 4, 4],
        "binarize": "none",
        "columns": {},
        "range": [open_data(ROWS).train[0].min().item(), open_data(ROWS).train[0].max().item()],
        "image": None,
        "given": [],
    }
    for kind, name in (("model", "gaussian"), ("guide", "diagonal_normal")):
        program = record["programs"][kind]
        path = shipped_folder(kind) / f"{name}.py"  # type: ignore[arg-type]
        assert (program["spec"], program["attribute"], program["shipped"]) == (name, kind.capitalize(), True)
        assert program["sha256"] == sha256_of(path)
        assert (run.folder / program["source"]).read_bytes() == path.read_bytes()
    assert run.config.data == (str(file),)
    assert torch.equal(run.data().valid[0], open_data(ROWS).valid[0])
    assert str(run.folder) not in (run.folder / "config.json").read_text(), "a run may be moved"


def test_other_data_is_refused_without_force(tmp_path):
    file = tmp_path / "rows.npy"
    np.save(file, ROWS)
    run = fit("gaussian", "diagonal_normal", file, tmp_path / "run", **OPTIONS)
    np.save(file, ROWS + 1)
    with pytest.raises(InputError, match=r"rows\.npy is not the data .*--force"):
        run.data()
    assert run.data(force=True).sha256 == open_data(ROWS + 1).sha256
    assert run.data(ROWS).sha256 == open_data(ROWS).sha256


def test_a_torn_last_line_of_metrics_is_left_out_and_mended(tmp_path):
    run = fit("gaussian", "diagonal_normal", ROWS, tmp_path / "run", **OPTIONS)
    lines = run.metrics
    assert [line["step"] for line in lines] == [0, 4]
    assert set(lines[1]) == {"step", "epoch", "valid", "train", "gradient_norm", "lr", "seconds"}
    assert set(lines[1]["valid"]) == {"elbo", "elbo_se_data", "rate", "rate_se_data", "rate_how", "distortion"}
    path = run.folder / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + whole.splitlines()[1][:-7])
    assert run.metrics == lines
    fit(data=ROWS, out=run.folder, resume=True)
    assert path.read_text() == whole
    fit(data=ROWS, out=run.folder, resume=True, epochs=2)
    assert [line["step"] for line in run.metrics] == [0, 4, 8]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"format": 2}'])
def test_a_config_that_this_version_can_not_read_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json can't be read|which this version does not know"):
        _ = Run(tmp_path).config


def test_no_run(tmp_path):
    with pytest.raises(InputError, match=r"is no run: it has no config\.json"):
        Run(tmp_path / "none")


def test_several_fields(tmp_path):
    labels = (ROWS[:, 0] > 0).astype("int64")
    run = fit(labelled, labelled_guide, (ROWS, labels), tmp_path / "run", epochs=1, batch_size=10)
    assert run.record["batch"]["shapes"] == [[4], []]
    assert run.record["batch"]["dtypes"] == ["float32", "int64"]
    run.pair(model=labelled, guide=labelled_guide)


def labelled(x: Tensor, y: Tensor) -> None:
    w = pyro.param("w", torch.zeros(4))
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z[..., None] * w, 1.0).to_event(1), obs=x)
        pyro.sample("y", dist.Bernoulli(logits=z), obs=y.float())


def labelled_guide(x: Tensor, y: Tensor) -> None:
    v = pyro.param("v", torch.zeros(4))
    with pyro.plate("data", x.shape[0]):
        pyro.sample("z", dist.Normal(x @ v + y, 1.0))
