"""The seam for data: any class that gives rows by their indices is fitted, checked, compared and encoded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.on_demand import OnDemand, row

import ppl_vae
from ppl_vae.core.errors import InputError
from ppl_vae.data import Data, Dataset, as_data, open_data
from ppl_vae.data.builtin import BUILTIN
from ppl_vae.data.newrows import rows_in_order
from ppl_vae.data.protocol import SPLITS, Shard

OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 16, "lr": 0.01, "set": {"hidden": 8, "latent_dim": 2}}


def held(data: Data) -> Dataset:
    """The same rows, in the same splits, in memory."""
    splits = (data.whole(split) for split in SPLITS)
    places = {split: data.numbers(split) for split in SPLITS}
    return Dataset(data.name, data.fields, *splits, "none", 0, data.sha256, places)


def outcome(run: ppl_vae.Run) -> tuple[Any, ...]:
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics]
    return lines, (run.folder / f"checkpoints/step-{run.step('last')}/state.safetensors").read_bytes()


def test_rows_that_are_made_on_demand_train_bit_for_bit_as_rows_in_memory(tmp_path: Path) -> None:
    data = OnDemand()
    runs = [
        ppl_vae.fit("gaussian", "diagonal_normal", given, tmp_path / str(i), **OPTIONS)
        for i, given in enumerate((data, held(data)))
    ]
    assert outcome(runs[0]) == outcome(runs[1])
    record = [run.record["data"] for run in runs]
    assert record[0] == record[1]
    assert record[0]["rows"] == [90, 12, 11]


def test_every_verb_takes_them_and_asks_for_few_rows_at_once(tmp_path: Path) -> None:
    data = OnDemand()
    assert isinstance(data, Data)
    assert ppl_vae.check("gaussian", "diagonal_normal", data, set=OPTIONS["set"]).passed
    run = ppl_vae.fit("gaussian", "diagonal_normal", data, tmp_path / "run", **OPTIONS)
    again = ppl_vae.fit(data=data, out=run.folder, resume=True, epochs=3)
    assert [line["epoch"] for line in again.metrics] == [0, 1, 2, 3]
    compared = ppl_vae.compare(run, draws=3, data=data)
    assert compared["rows"] == 11
    data.most = 0
    encoded = ppl_vae.encode(run, data)
    assert data.most <= OPTIONS["batch_size"], "encode asks for a batch at a time"
    assert encoded["z_mean"].shape == (113, 2)
    rows = torch.stack([row(number) for number in range(113)])
    np.testing.assert_allclose(ppl_vae.encode(run, rows)["z_mean"], encoded["z_mean"], rtol=1e-5, atol=1e-6)
    shown = ppl_vae.reconstruct(run, data=data, num=3)
    np.testing.assert_array_equal(shown["x"], np.stack([row(102 + i) for i in range(3)]))


def test_a_run_refuses_data_with_another_fingerprint(tmp_path: Path) -> None:
    data = OnDemand()
    run = ppl_vae.fit("gaussian", "diagonal_normal", data, tmp_path / "run", **OPTIONS)
    with pytest.raises(InputError, match="fitted to data given from Python: give data= again"):
        ppl_vae.encode(run)
    data.sha256 = "another"
    with pytest.raises(InputError, match="on demand is not the data that"):
        ppl_vae.encode(run, data)


@pytest.mark.parametrize(("option", "value"), [("scale", 2.0), ("binarize", "once"), ("split_seed", 3)])
def test_options_of_reading_are_refused_for_data_that_are_read(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"on demand is data that are read and split already: leave out {option}"):
        as_data(OnDemand(), **{option: value})


def test_data_in_memory_may_be_given_as_they_are(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    a = ppl_vae.fit("gaussian", "diagonal_normal", rows, tmp_path / "a", **OPTIONS)
    b = ppl_vae.fit("gaussian", "diagonal_normal", open_data(rows), tmp_path / "b", **OPTIONS)
    assert outcome(a) == outcome(b)


# ---- what a class gets for its rows


def test_batches_of_an_epoch_are_those_of_its_order() -> None:
    data, memory = OnDemand(), held(OnDemand())
    for epoch in (None, 0, 5):
        for start in (0, 2):
            ours = data.batches("train", 40, epoch=epoch, seed=7, start=start)
            for (x,), (y,) in zip(ours, memory.batches("train", 40, epoch=epoch, seed=7, start=start), strict=True):
                assert torch.equal(x, y)
    assert [len(x) for (x,) in data.batches("test", 4)] == [4, 4, 3]
    assert data.steps_per_epoch(40) == memory.steps_per_epoch(40) == 3
    assert data.describe() == "on demand: 90 train + 12 validation + 11 test rows, x (4,), binarize none"


@pytest.mark.parametrize(("size", "start", "words"), [(0, 0, "batch_size"), (40, -1, "start"), (40, 4, "start=4")])
def test_a_position_that_is_none_is_refused_at_once(size: int, start: int, words: str) -> None:
    for data in (OnDemand(), held(OnDemand())):
        with pytest.raises(InputError, match=words):
            data.batches("train", size, epoch=0, start=start)


def test_rows_in_order_are_those_that_were_read() -> None:
    x = np.arange(60, dtype="float32").reshape(20, 3)
    rows = rows_in_order(open_data((x, np.arange(20))))
    batches = list(rows.batches(7))
    assert [len(values) for values, _ in batches] == [7, 7, 6]
    assert torch.equal(torch.cat([values for values, _ in batches]), torch.from_numpy(x))
    assert torch.cat([numbers for _, numbers in batches]).tolist() == list(range(20))


def test_fixed_data_are_drawn_once() -> None:
    grey = np.random.default_rng(0).random((50, 6), dtype=np.float32)
    drawn, once = (open_data(grey, binarize=how) for how in ("epoch", "once"))
    assert not torch.equal(drawn.train[0], once.train[0])
    assert torch.equal(drawn.fixed().train[0], once.train[0])
    assert drawn.fixed().binarize == "once"
    assert once.fixed() is once


# ---- built-in sets


@pytest.mark.parametrize("name", BUILTIN)
def test_a_built_in_set_is_a_class_in_a_file_of_its_own(name: str) -> None:
    built_in = BUILTIN[name]
    pixels, labels = built_in.read(), built_in.labels()
    assert pixels.shape == (len(labels), np.prod(built_in.image))
    assert (pixels.min(), pixels.max()) == (0, built_in.largest)
    assert np.bincount(labels).min() > 150
    assert len(np.bincount(labels)) == 10
    data = open_data(name)
    assert (data.image, data.binarize) == (built_in.image, built_in.binarize)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_the_parts_of_a_batch_are_all_of_its_rows(rows: int, size: int) -> None:
    batch = torch.arange(10, 10 + rows)
    shards = [Shard(rank, size) for rank in range(size)]
    counted = [shard.of(batch)[: shard.count(rows)] for shard in shards]
    assert sorted(torch.cat(counted).tolist()) == batch.tolist()
    assert all(len(shard.of(batch)) == max(1, shard.count(rows)) for shard in shards)


def test_batches_of_a_part() -> None:
    data = open_data(np.arange(40.0).reshape(20, 2))
    whole = list(data.batches("train", 7, epoch=3, seed=1, start=1))
    parts = [list(data.batches("train", 7, epoch=3, seed=1, start=1, shard=Shard(rank, 2))) for rank in (0, 1)]
    for (x,), (even,), (odd,) in zip(whole, *parts, strict=True):
        assert x[0::2].equal(even)
        assert x[1::2].equal(odd)
