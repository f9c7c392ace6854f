"""Streams: the rows of files in splits, orders and batches that are functions of seeds, as if they were in memory."""

import copy
import hashlib
import os
import pickle
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from support.streamed import COLUMNS, NAMES, ROWS, held, npy, parquet, same_rows, small_blocks, streamed, table

import ppl_vae
from ppl_vae.core import memory
from ppl_vae.core.errors import InputError, Told
from ppl_vae.data import Dataset, as_data, open_data
from ppl_vae.data.protocol import SPLITS, Alone, Batch, Shard
from ppl_vae.data.streams import Stream, blocks
from ppl_vae.data.streams.blocks import Blocks, edges_of
from ppl_vae.data.streams.epoch import Epoch
from ppl_vae.data.streams.scan import Seen
from ppl_vae.data.streams.windows import Windows
from ppl_vae.training.loop import Loop

OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 16, "lr": 0.01, "set": {"hidden": 8, "latent_dim": 2}}
KINDS: dict[str, Callable[[Path], Path]] = {"npy": npy, "parquet": parquet}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, no_waiting_for_the_disk: None) -> None:
    small_blocks(monkeypatch)


@pytest.fixture(params=KINDS)
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Stream:
    return streamed(KINDS[request.param](tmp_path))


def readers(seconds: float = 10) -> bool:
    """Is there a thread that reads, even after so many seconds?"""
    for _ in range(int(seconds / 0.01)):
        if not (found := [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]):
            return False
        found[0].join(0.01)
    return any(thread.name.startswith("ahead") for thread in threading.enumerate())


def outcome(run: ppl_vae.Run) -> tuple[Any, ...]:
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics]
    return lines, (run.folder / f"checkpoints/step-{run.step('last')}/state.safetensors").read_bytes()


def test_rows_are_those_of_the_file_and_of_one_split_each(data: Stream) -> None:
    x = torch.from_numpy(table())
    assert data.lengths == {"train": 480, "valid": 60, "test": 60}
    numbers = [data.numbers(split) for split in SPLITS]
    assert torch.cat(numbers).sort().values.equal(torch.arange(ROWS))
    for split, own in zip(SPLITS, numbers, strict=True):
        assert data.whole(split)[0].equal(x[own])
        some = torch.tensor([3, 0, len(own) - 1, 3])
        assert data.rows(split, some)[0].equal(x[own[some]])
        assert data.numbers(split, some).equal(own[some])
    assert data.by_number(torch.tensor([599, 0, 7]))[0].equal(x[[599, 0, 7]])


def test_what_a_pass_finds_is_what_is_found_in_memory(tmp_path: Path, data: Stream) -> None:
    memory_of = open_data(str(npy(tmp_path)))
    assert same_rows(data, memory_of)
    same = held(data)
    for ours, theirs in zip(data.extent(), Dataset.extent(same), strict=True):
        assert ours.equal(theirs)
    for mine, theirs in zip(data.moments(), same.moments(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)
    assert (data.shapes, data.dtypes, data.image) == (same.shapes, same.dtypes, None)


def test_the_fingerprint_is_of_the_content_block_by_block_whatever_it_is_read_from(tmp_path: Path) -> None:
    x = table()
    data = streamed(npy(tmp_path, x))
    expected = hashlib.sha256(repr([("x", (ROWS, COLUMNS), "float32")]).encode())
    for part in np.split(x, ROWS // 20):
        expected.update(hashlib.sha256(part.tobytes()).digest())
    assert data.sha256 == expected.hexdigest()
    assert streamed(parquet(tmp_path, x, files=1, group=20)).sha256 == data.sha256
    x[417, 2] = np.nextafter(x[417, 2], np.float32(9))
    assert streamed(npy(tmp_path, x)).sha256 != data.sha256
    assert streamed(npy(tmp_path, table().astype("f8"))).sha256 != data.sha256


class Partner:
    """One of several processes that run as threads of this one."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, said: list[Any]) -> None:
        self.shard, self.barrier, self.said = Shard(rank, size), barrier, said

    def gathered(self, mine: Any) -> list[Any]:
        self.said[self.shard.rank] = mine
        self.barrier.wait(30)
        found = list(self.said)
        self.barrier.wait(30)
        for error in found:
            if isinstance(error, Told):
                error.common = True
                raise error
        return found


def together(size: int, work: Callable[[Partner], Any]) -> list[Any]:
    """What each of several processes finds, or the error that it raises."""
    barrier, said = threading.Barrier(size), [None] * size

    def one(rank: int) -> Any:
        try:
            return work(Partner(rank, size, barrier, said))
        except InputError as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


@pytest.mark.parametrize("processes", [2, 3, 40])
def test_several_processes_share_the_pass_over_all_rows(tmp_path: Path, processes: int) -> None:
    x = table()
    x[[50, 70, 300, 301], 2] = np.nan
    path = npy(tmp_path, x)
    whole = streamed(path, missing="nan").scan
    read = [list[int]() for _ in range(processes)]

    def opened(partner: Partner) -> Stream:
        data = streamed(path, missing="nan", others=partner, look=False)
        numbers = [numbers for numbers, _ in data.chunks()] if data.found is None else []
        assert not numbers, "missing cells are looked for at once"
        return data

    for data in together(processes, opened):
        assert (data.scan.sha256, data.scan.missing) == (whole.sha256, whole.missing)
        for mine, theirs in zip(data.extent(), whole.extents[0], strict=True):
            assert mine.equal(theirs)
        for mine, theirs in zip(data.moments(), whole.moments, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)

    def chunked(partner: Partner) -> Stream:
        data = streamed(npy_whole, others=partner, look=False)
        assert data.found is None
        for numbers, (rows,) in data.chunks():
            read[partner.shard.rank] += numbers.tolist()
            assert rows.equal(torch.from_numpy(table())[numbers])
        assert data.found is not None
        return data

    (folder := tmp_path / "whole").mkdir()
    npy_whole = npy(folder)
    found = together(processes, chunked)
    assert {data.sha256 for data in found} == {streamed(npy_whole).sha256}
    assert sorted(number for each in read for number in each) == list(range(ROWS))
    assert max(map(len, read)) - min(map(len, read)) <= 20


def test_what_one_process_finds_wrong_all_are_told(tmp_path: Path) -> None:
    x = table()
    x[417, 2] = np.inf
    path = npy(tmp_path, x)
    errors = together(3, lambda partner: streamed(path, others=partner))
    for error in errors:
        assert "row 417, column 2 holds inf" in str(error)
        assert error.common
    others = [npy(tmp_path), npy(tmp_path / "b", table(500)) if (tmp_path / "b").mkdir() is None else None]
    errors = together(2, lambda partner: streamed(others[partner.shard.rank], others=partner))
    assert [str(error) for error in errors] == [
        "rows.npy is not the same for all processes: its files have other names or sizes"
    ] * 2


def test_a_fit_reads_all_rows_once_before_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read, added = npy(tmp_path), list[int](), Seen.add
    monkeypatch.setattr(Seen, "add", lambda seen, *args: read.append(args[2]) or added(seen, *args))
    for standardize, passes in ((False, 1), (True, 2)):
        read.clear()
        ppl_vae.fit(
            "gaussian", "diagonal_normal", path, tmp_path / str(passes), stream="on", standardize=standardize,
            **OPTIONS | {"epochs": 1},
        )  # fmt: skip
        assert read == [*range(30)] * passes


@pytest.mark.parametrize("seed", [0, 5])
def test_the_split_is_random_within_blocks_and_has_its_share_of_each(tmp_path: Path, seed: int) -> None:
    x = table(4000)
    data = streamed(npy(tmp_path, x), split_seed=seed)
    counts = data.blocks.counts
    assert set(data.blocks.sizes.tolist()) == {20}
    assert set(counts["test"].tolist()) == set(counts["valid"].tolist()) == {2}
    places = torch.cat([data.blocks.places(block, "test") for block in range(len(data.blocks))])
    frequency = torch.bincount(places, minlength=20) / len(data.blocks)
    assert (frequency - 0.1).abs().max() < 5 * (0.1 * 0.9 / 200) ** 0.5
    other = streamed(npy(tmp_path, x), split_seed=seed + 1)
    assert not data.numbers("test").equal(other.numbers("test"))


@pytest.mark.parametrize("rows", [3, 4, 7, 10, 61])
@pytest.mark.parametrize("part", [1, 2, 3, 50])
def test_each_split_has_a_row_whatever_the_blocks(rows: int, part: int) -> None:
    edges = np.append(np.arange(0, rows, part), rows)
    for fraction in (0.01, 0.1, 0.45):
        found = Blocks(edges, 1, 0, fraction, fraction)
        assert sum(found.lengths.values()) == rows
        assert min(found.lengths.values()) >= 1
        every = [int(edges[b]) + found.places(b, split) for b in range(len(found)) for split in SPLITS]
        assert torch.cat(every).sort().values.equal(torch.arange(rows))
    with pytest.raises(InputError, match="2 rows cannot be split"):
        Blocks(np.array([0, 2]), 1, 0, 0.1, 0.1)


def test_so_many_rows_are_held_out_at_most() -> None:
    for width, most in ((1, 100_000), (256, 65_536), (150_528, 10_000)):
        found = Blocks(np.arange(0, 3_000_001, 1000), width, 0, 0.1, 0.1)
        assert (found.lengths["valid"], found.lengths["test"]) == (most, most)


def test_small_row_groups_make_a_block_together_and_a_large_one_is_a_block() -> None:
    assert edges_of(100, COLUMNS, np.array([0, 5, 30, 90, 95, 100])).tolist() == [0, 30, 90, 100]
    assert edges_of(50, COLUMNS, None).tolist() == [0, 20, 40, 50]


def test_an_epoch_is_a_permutation_by_seed_and_epoch(data: Stream) -> None:
    orders = {(epoch, seed): data.order("train", epoch, seed) for epoch in (0, 1) for seed in (0, 1)}
    for order in orders.values():
        assert order.sort().values.equal(torch.arange(480))
    assert len({tuple(order.tolist()) for order in orders.values()}) == 4
    assert data.order("train", 1, 1).equal(orders[1, 1])
    far = (orders[0, 0] - torch.arange(480)).abs().double().mean()
    assert far > 100, "a row comes far from where it lies in the file; 160 on average, were it anywhere"


@pytest.mark.parametrize("size", [1, 7, 48, 200, 480, 1000])
def test_an_epoch_begins_at_any_batch(data: Stream, size: int) -> None:
    rows, order = data.whole("train")[0], data.order("train", 4, 2)
    steps = -(-480 // size)
    for start in {*range(0, steps + 1, max(1, steps // 30)), steps}:
        found = [x for (x,) in data.batches("train", size, epoch=4, seed=2, start=start)]
        assert [len(x) for x in found] == [min(size, 480 - i * size) for i in range(start, steps)]
        assert torch.cat([*found, rows[:0]]).equal(rows[order[start * size :]])
        if start < steps:
            part = data.part("train", size, start, epoch=4, seed=2)
            assert rows[part].equal(found[0])
    assert list(data.batches("test", size, start=-(-60 // size))) == []
    with pytest.raises(InputError, match=f"start={steps + 1} is past the end"):
        data.batches("train", size, epoch=4, start=steps + 1)
    in_order = torch.cat([x for (x,) in data.batches("test", size)])
    assert in_order.equal(data.whole("test")[0])
    assert torch.cat([x for (x,) in data.batches("valid", size)]).equal(data.whole("valid")[0])


@pytest.mark.parametrize(("size", "processes"), [(50, 3), (48, 2), (48, 8), (64, 16), (7, 2), (64, 64), (479, 2)])
def test_the_parts_of_several_processes_are_all_of_a_batch(data: Stream, size: int, processes: int) -> None:
    whole = list(data.batches("train", size, epoch=1, seed=3))
    for rank in range(processes):
        shard = Shard(rank, processes)
        parts = list(data.batches("train", size, epoch=1, seed=3, shard=shard))
        for (mine,), (x,) in zip(parts, whole, strict=True):
            assert mine.equal(x[rank::processes]) or (rank >= len(x) and len(mine) == 1)
        (later,) = list(data.batches("train", size, epoch=1, seed=3, shard=shard, start=len(whole) - 1))
        assert later[0].equal(parts[-1][0]) or rank >= len(whole[-1][0])


@pytest.mark.parametrize(("size", "processes", "share"), [(48, 2, 2), (48, 8, 8), (64, 16, 8), (48, 6, 2), (48, 3, 1)])
def test_a_process_reads_the_blocks_of_its_rows_alone(
    data: Stream, monkeypatch: pytest.MonkeyPatch, size: int, processes: int, share: int
) -> None:
    lanes = Windows(data.blocks, "train", COLUMNS, 1, 3).lanes
    assert lanes in (4, 8)
    share, read, block_of = min(share, lanes), list[int](), Epoch._block

    def noted(epoch: Epoch, block: int) -> Batch:
        if epoch.draws == (3, 1):  # and not the next epoch, of which the first rows are read, too
            read.append(block)
        return block_of(epoch, block)

    monkeypatch.setattr(Epoch, "_block", noted)
    for rank in range(processes):
        read.clear()
        assert list(data.batches("train", size, epoch=1, seed=3, shard=Shard(rank, processes)))
        own = set(data.blocks.of_split("train", data.order("train", 1, 3)[rank % share :: share]).tolist())
        assert set(read) <= own
        assert len(read) <= len(data.blocks) / share + 2 * lanes / share, "each once, but where two lanes meet"


@pytest.mark.parametrize(("rows", "group", "lanes"), [(600, 20, 8), (600, 150, 1), (600, 50, 4), (100, 20, 1)])
def test_there_are_as_many_lanes_as_large_blocks_leave_room_for(
    tmp_path: Path, rows: int, group: int, lanes: int
) -> None:
    data = streamed(parquet(tmp_path, table(rows), files=1, group=group))
    found = Windows(data.blocks, "train", COLUMNS, 0, 0)
    assert found.lanes == lanes
    assert data.order("train", 0, 0).sort().values.equal(torch.arange(data.lengths["train"]))
    assert found.length == max(1, 60 // lanes)
    places = torch.cat([x for (x,) in data.batches("train", 37, epoch=0)])
    assert places.equal(data.whole("train")[0][data.order("train", 0, 0)])


def test_all_rows_in_one_pass_with_their_numbers(data: Stream) -> None:
    x = torch.from_numpy(table())
    seen = list(data.chunks())
    assert torch.cat([numbers for numbers, _ in seen]).sort().values.equal(torch.arange(ROWS))
    for numbers, (rows,) in seen:
        assert rows.equal(x[numbers])


def test_example_rows_come_from_all_over_a_sorted_file(data: Stream) -> None:
    (some,) = data.first(100)
    assert len(some) == 100
    assert (some.mean(0) - data.moments()[0]).abs().max() < 0.5 * data.moments()[1].max()
    assert len(data.first(10_000)[0]) == 480


@pytest.mark.parametrize("standardize", [False, True])
def test_a_stream_trains_bit_for_bit_as_the_same_rows_in_memory(
    data: Stream, tmp_path: Path, standardize: bool
) -> None:
    same = held(data)
    object.__setattr__(same, "moments", data.moments)
    runs = [
        ppl_vae.fit("gaussian", "diagonal_normal", given, tmp_path / str(i), standardize=standardize, **OPTIONS)
        for i, given in enumerate((data, same))
    ]
    assert outcome(runs[0]) == outcome(runs[1])


def test_a_run_on_files_goes_on_at_its_place_and_every_verb_takes_it(tmp_path: Path) -> None:
    path = parquet(tmp_path)
    fit = lambda out, **more: ppl_vae.fit("gaussian", "diagonal_normal", path, tmp_path / out, **OPTIONS | more)  # noqa: E731
    run = fit("run")
    assert run.record["data"]["stream"]["files"] == 4
    part = fit("part", epochs=1)
    assert outcome(ppl_vae.resume(part, epochs=2)) == outcome(run)
    assert ppl_vae.rerun(run).same
    encoded = ppl_vae.encode(run)
    assert encoded["z_mean"].shape == (ROWS, 2)
    frame = pandas.DataFrame(table(), columns=NAMES)
    frame.to_parquet(tmp_path / "one.parquet")
    one = f"{tmp_path}/one.parquet"
    np.testing.assert_allclose(ppl_vae.encode(run, one)["z_mean"], encoded["z_mean"], rtol=1e-4, atol=1e-5)
    assert ppl_vae.compare(run, draws=3)["rows"] == 60
    assert ppl_vae.check("gaussian", "diagonal_normal", path, set=OPTIONS["set"]).passed
    found = ppl_vae.evaluate(run, num_samples=20, gap_rows=2, annealed_rows=0, simulations=0, calibrations=20)
    assert len(found.numbers) == 60
    assert ppl_vae.reconstruct(run, num=3)["x"].shape == (3, COLUMNS)


def test_files_that_are_as_they_were_are_not_read_to_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = npy(tmp_path)
    run = ppl_vae.fit("gaussian", "diagonal_normal", path, tmp_path / "run", stream="on", **OPTIONS)
    found = run.data()
    assert isinstance(found, Stream)
    assert found.checked
    monkeypatch.setattr("ppl_vae.data.streams.stream.Seen", None)
    assert ppl_vae.resume(run, epochs=3).step("last") == 90
    ppl_vae.encode(run)
    monkeypatch.undo()
    small_blocks(monkeypatch)
    np.save(path, table())  # the same content, at another time
    again = run.data()
    assert not again.checked
    np.save(path, table() + 1)
    with pytest.raises(InputError, match=r"rows.npy is not the data that .* was fitted to \(its hash differs\)"):
        run.data()


def test_the_way_in_which_data_were_opened_stays_whatever_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = npy(tmp_path)
    whole = ppl_vae.fit("gaussian", "diagonal_normal", path, tmp_path / "whole", **OPTIONS)
    monkeypatch.setattr(memory, "available_memory", lambda: 1.9 * path.stat().st_size)
    assert isinstance(as_data(str(path)), Stream)
    assert not isinstance(as_data(str(path), stream="off"), Stream)
    assert not isinstance(whole.data(), Stream)
    monkeypatch.undo()
    assert not isinstance(as_data(str(path)), Stream)


def test_the_same_rows_in_other_row_groups_are_refused_since_others_would_be_held_out(tmp_path: Path) -> None:
    path = parquet(tmp_path)
    run = ppl_vae.fit("gaussian", "diagonal_normal", path, tmp_path / "run", **OPTIONS)
    parquet(tmp_path, group=60)
    with pytest.raises(InputError, match="or the same rows in other row groups, so that others would be held out"):
        run.data()


# ---- fields, columns, numbers


def test_fields_and_columns_are_chosen_as_in_memory(tmp_path: Path) -> None:
    x, y = table(), np.arange(ROWS) % 3
    frame = pandas.DataFrame(x, columns=NAMES).assign(label=y, small=y.astype("int8"))
    frame.to_parquet(path := tmp_path / "rows.parquet", row_group_size=30)
    named = [f"x={path}:c2,c0", f"y={path}:label"]
    data, same = streamed(named), open_data(named)
    assert (data.fields, data.shapes, data.dtypes) == (same.fields, same.shapes, same.dtypes)
    assert data.columns == same.columns
    assert same_rows(data, same)
    rows = data.by_number(torch.arange(ROWS))
    assert rows[0].equal(torch.from_numpy(x[:, [2, 0]]))
    assert rows[1].equal(torch.from_numpy(y))
    assert same_rows(streamed(f"{path}:c0,small"), open_data(f"{path}:c0,small"))


def test_missing_cells_stay_nan_and_are_found(tmp_path: Path) -> None:
    x = table()
    x[[50, 70, 300, 301], 2] = np.nan
    path = parquet(tmp_path, x)
    with pytest.raises(InputError, match=r"numbers are not finite as float32\nThe first: row 50, column 2 \('c2'\)"):
        streamed(path)
    data = streamed(path, missing="nan")
    same = held(data)
    assert data.with_missing(3) == Dataset.with_missing(same, 3)
    for mine, theirs in zip(data.moments(), same.moments(), strict=True):
        torch.testing.assert_close(mine, theirs)
    whole = pandas.DataFrame({"a": np.arange(60), "b": [None, *range(59)]}).convert_dtypes()
    whole.to_parquet(tmp_path / "gaps.parquet", row_group_size=20)
    named = f"{tmp_path}/gaps.parquet"
    assert same_rows(streamed(named, missing="nan"), open_data(named, missing="nan"))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "uint8", ">f4", "bool", "int32"])
def test_arrays_of_any_dtype_and_order(tmp_path: Path, dtype: str, order: Any) -> None:
    x = np.array((table(90, 6) > 1).reshape(90, 2, 3) * (1 if dtype == "bool" else 7), dtype=dtype, order=order)
    np.save(path := tmp_path / "x.npy", x)
    data, same = streamed(path, scale=7.0), open_data(path, scale=7.0)
    assert data.image == same.image
    assert same_rows(data, same)


# ---- bits


def test_bits_are_drawn_by_block_once_or_in_each_epoch(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((ROWS, COLUMNS), dtype=np.float32)
    path = npy(tmp_path, x)
    grey = streamed(path)
    threshold, once, epoch = (streamed(path, binarize=how) for how in ("threshold", "once", "epoch"))
    for split in SPLITS:
        assert threshold.whole(split)[0].equal((grey.whole(split)[0] > 0.5).float())
        if split != "train":
            assert once.whole(split)[0].equal(epoch.whole(split)[0])
    bits = once.whole("train")[0]
    assert bits.unique().tolist() == [0, 1]
    assert epoch.fixed().whole("train")[0].equal(bits)
    assert epoch.whole("train")[0].equal(grey.whole("train")[0])
    first, again, second = (
        torch.cat([rows for (rows,) in epoch.batches("train", 50, epoch=e)])[epoch.order("train", e, 0).argsort()]
        for e in (0, 0, 1)
    )
    assert first.equal(again)
    assert not first.equal(second)
    for drawn in (bits, first, second):
        z = (drawn - grey.whole("train")[0]).mean() / (0.25 / drawn.numel()) ** 0.5
        assert abs(z) < 4
    with pytest.raises(InputError, match=r"binarize once needs values in \[0, 1\], but row 0, column 0"):
        streamed(npy(tmp_path, x + 1), binarize="once")


def test_runs_on_bits_go_on_bit_for_bit(tmp_path: Path) -> None:
    path = npy(tmp_path, np.random.default_rng(0).random((ROWS, COLUMNS), dtype=np.float32))
    options = OPTIONS | {"binarize": "epoch", "stream": "on"}
    run = ppl_vae.fit("bernoulli", "diagonal_normal", path, tmp_path / "run", **options)
    part = ppl_vae.fit("bernoulli", "diagonal_normal", path, tmp_path / "part", **options | {"epochs": 1})
    assert outcome(ppl_vae.resume(part, epochs=2)) == outcome(run)
    assert set(np.unique(ppl_vae.reconstruct(run, num=5)["x"])) <= {0, 1}


# ---- what is wrong


def test_a_file_that_goes_wrong_while_it_trains_is_told(tmp_path: Path) -> None:
    path = npy(tmp_path)
    data = streamed(path)
    batches = data.batches("train", 10, epoch=0)
    next(batches)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"rows \d+ to \d+ can't be read: it is shorter than it was"):
        list(batches)
    with pytest.raises(InputError, match=r"rows.npy was changed since it was opened"):
        data.batches("train", 10, epoch=1)
    folder = parquet(tmp_path)
    data = streamed(folder)
    batches = data.batches("train", 10, epoch=0)
    next(batches)
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"part-\d.parquet can't be read as parquet"):
        list(batches)
    with pytest.raises(InputError, match=r"part-0.parquet can't be read any more: No such file"):
        data.batches("train", 10, epoch=1)
    assert not readers()


def test_reading_ends_with_the_iterator(data: Stream) -> None:
    batches = data.batches("train", 10, epoch=0)
    next(batches)
    assert readers(0)
    batches.close()  # type: ignore[attr-defined]
    assert not readers()


def test_the_next_epoch_is_begun_while_the_last_batches_are_in_use(
    data: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, block_of = list[Any](), Epoch._block
    monkeypatch.setattr(Epoch, "_block", lambda epoch, block: read.append(epoch.draws) or block_of(epoch, block))
    whole = {epoch: [x for (x,) in data.batches("train", 16, epoch=epoch)] for epoch in (0, 1, 2)}
    assert data.reading is not None
    assert data.reading.begun is not None
    assert len(data.reading.begun.turn.result()[0]) > 0
    assert (0, 3) in read
    assert read == sorted(read), "one epoch after the other, by one thread"
    assert len(read) < 4 * len(data.blocks), "each block once in each epoch, but where two lanes meet"
    for epoch in (2, 0, 1):
        for start in (0, 3):
            again = [x for (x,) in data.batches("train", 16, epoch=epoch, start=start)]
            assert all(a.equal(b) for a, b in zip(again, whole[epoch][start:], strict=True))
    both = zip(data.batches("train", 16, epoch=2), data.batches("train", 16, epoch=2), strict=True)
    for (x,), (y,), expected in ((*pair, z) for pair, z in zip(both, whole[2], strict=True)):
        assert x.equal(expected)
        assert y.equal(expected)
    assert not readers()


def test_rooms_are_filled_by_one_thread_at_a_time(data: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [data.rows("train", data.order("train", epoch, 0))[0] for epoch in (0, 1, 2)]
    fill = Epoch._fill

    def late(epoch: Epoch, room: Any, window: int, read: Any) -> None:
        fill(epoch, room, window, read)
        time.sleep(0.01)  # in which no other window may come into this room

    monkeypatch.setattr(Epoch, "_fill", late)
    for epoch, rows in enumerate(whole):
        assert torch.cat([x for (x,) in data.batches("train", 16, epoch=epoch)]).equal(rows)


def test_a_process_that_is_forked_reads_for_itself(data: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    block_of = Epoch._block
    monkeypatch.setattr(Epoch, "_block", lambda epoch, block: time.sleep(0.02) or block_of(epoch, block))
    list(data.batches("train", 16, epoch=0))
    assert data.reading is not None
    assert data.reading.begun is not None
    monkeypatch.setattr(data.reading, "begun", data.reading.begun._replace(process=os.getpid() + 1, turn=Future()))
    rows = torch.cat([x for (x,) in data.batches("train", 16, epoch=1)])  # and does not wait for ever
    assert rows.equal(data.rows("train", data.order("train", 1, 0))[0])


def test_a_stream_is_copied_whatever_it_is_reading(data: Stream) -> None:
    whole = [x for (x,) in data.batches("train", 16, epoch=0)]
    for copied in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        again = [x for (x,) in copied.batches("train", 16, epoch=0)]
        assert all(a.equal(b) for a, b in zip(again, whole, strict=True))


def test_a_stream_is_read_in_inference_mode(data: Stream) -> None:
    whole = [x for (x,) in data.batches("test", 16)]
    with torch.inference_mode():
        inside = [x for (x,) in data.batches("test", 16)]
        list(data.batches("train", 16, epoch=0))
    assert all(a.equal(b) for a, b in zip(inside, whole, strict=True))
    assert len(list(data.batches("train", 16, epoch=1))) == data.steps_per_epoch(16)


def test_a_file_that_is_changed_in_the_only_epoch_ends_it(tmp_path: Path) -> None:
    path = npy(tmp_path)
    data = streamed(path)
    list(data.batches("valid", 10))
    batches = data.batches("train", 10, epoch=0)
    next(batches)
    np.save(path, table() + 7)
    with pytest.raises(InputError, match=r"rows.npy was changed since it was opened"):
        list(batches)
    with pytest.raises(InputError, match=r"rows.npy was changed since it was opened"):
        data.batches("valid", 10)


def test_a_run_that_was_given_a_stream_takes_it_again(tmp_path: Path) -> None:
    data = streamed(npy(tmp_path))
    run = ppl_vae.fit("gaussian", "diagonal_normal", data, tmp_path / "run", **OPTIONS)
    assert run.data(data) is data
    again = ppl_vae.fit(out=tmp_path / "run", resume=True, data=data, epochs=OPTIONS["epochs"] + 1)
    assert again.metrics[-1]["epoch"] == OPTIONS["epochs"] + 1
    other = tmp_path / "other"
    other.mkdir()
    np.save(other / "rows.npy", table() + 1)
    with pytest.raises(InputError, match="is not the data that"):
        run.data(streamed(other / "rows.npy"))


def test_all_processes_do_what_the_first_one_says_of_streaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npy(tmp_path)

    class First(Alone):
        """A process beside a first one that sees other amounts of memory."""

        def gathered(self, mine: Any) -> list[Any]:
            return [not mine] if isinstance(mine, bool) else super().gathered(mine)

    assert isinstance(as_data(str(path), others=First()), Stream)
    monkeypatch.setattr(memory, "available_memory", lambda: 3 * path.stat().st_size)
    assert not isinstance(as_data(str(path), others=First()), Stream)


def test_damaged_files_and_folders_of_other_things_are_refused(tmp_path: Path) -> None:
    path = npy(tmp_path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"rows.npy is damaged: it says that it holds .* but is shorter"):
        streamed(path)
    path.write_bytes(b"no array")
    with pytest.raises(InputError, match=r"rows.npy: cannot be read as .npy; write it anew"):
        streamed(path)
    folder = parquet(tmp_path)
    part = folder / "part-2.parquet"
    frame = pandas.read_parquet(part)
    frame.drop(columns="c1").to_parquet(part)
    with pytest.raises(
        InputError, match=r"rows/part-2.parquet has the columns c0, c2, c3, c4, .*part-0.parquet has c0, c1"
    ):
        streamed(folder)
    frame.astype({"c1": "float64"}).to_parquet(part)
    with pytest.raises(InputError, match=r"part-2.parquet: column 'c1' is of double, but in .* it is of float"):
        streamed(folder)
    frame.assign(c1="text").to_parquet(part)
    with pytest.raises(InputError, match=r"column 'c1' is of (large_)?string, not of numbers.*choose columns"):
        streamed(folder)
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"rows/part-2.parquet can't be read as parquet"):
        streamed(folder)
    with pytest.raises(InputError, match="has no column 'd'; its columns are c0, c1"):
        streamed(f"{parquet(tmp_path)}:c0,d")


def test_what_can_not_be_streamed_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data that are in memory can't be streamed: leave out --stream on"):
        as_data(table(), stream="on")
    with pytest.raises(InputError, match="data that are in memory can't be streamed"):
        as_data("digits", stream="on")
    with pytest.raises(InputError, match=r"none\.npy: no such file"):
        as_data(str(tmp_path / "none.npy"), stream="on")
    np.savetxt(path := tmp_path / "x.txt", table())
    with pytest.raises(InputError, match=r"x.txt can't be streamed: give \.csv, \.h5ad, \.npy, \.npz, \.parquet"):
        as_data(str(path), stream="on")
    with pytest.raises(InputError, match="one number per row: reshape to"):
        streamed(npy(tmp_path, table()[:, 0]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"a folder without .parquet files and without pictures"):
        as_data(str(tmp_path / "empty"))
    np.save(tmp_path / "y.npy", np.arange(100))
    with pytest.raises(InputError, match=r"but there are 600 in field x .*, 100 in field y"):
        streamed([npy(tmp_path), tmp_path / "y.npy"])


def test_a_row_group_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path, group=1000)
    monkeypatch.setattr(memory, "available_memory", lambda: 10_000.0)
    with pytest.raises(InputError, match=r"has a part of 150 rows, .* write it with smaller row groups"):
        streamed(path)


def test_validation_rows_that_are_many_are_read_again(data: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [x for (x,) in data.batches("valid", 16)]
    assert data.valid is not None
    monkeypatch.setattr("ppl_vae.data.streams.stream.HELD", 10)
    for a, (b,) in zip(kept, data.batches("valid", 16), strict=True):
        assert a.equal(b)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [len(x) for (x,) in data.batches("valid", 16, start=3)] == [12]
    assert blocks.HELD == 2**24


class Stopped(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("at", [7, 41])
def test_a_fit_that_is_killed_within_an_epoch_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    path = npy(tmp_path)
    options = OPTIONS | {"stream": "on", "checkpoint_every": 5}
    whole = ppl_vae.fit("gaussian", "diagonal_normal", path, tmp_path / "whole", **options)
    step = Loop.step

    def killed(loop: Loop, batch: Any) -> None:
        if loop.state.step == at:
            raise Stopped
        step(loop, batch)

    monkeypatch.setattr(Loop, "step", killed)
    with pytest.raises(Stopped):
        ppl_vae.fit("gaussian", "diagonal_normal", path, tmp_path / "part", **options)
    monkeypatch.setattr(Loop, "step", step)
    part = ppl_vae.Run(tmp_path / "part")
    assert part.step("last") == at // 5 * 5
    assert outcome(ppl_vae.resume(part)) == outcome(whole)


def test_a_folder_gives_new_rows_by_the_names_of_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"set": {"latent_dim": 2, "hidden": 8}, "epochs": 1, "compile": "off"}
    run = ppl_vae.fit("gaussian", "diagonal_normal", path := parquet(tmp_path), tmp_path / "run", **options)
    own = ppl_vae.encode(run)
    path = path.rename(tmp_path / "moved")
    for each in path.iterdir():
        frame = pandas.read_parquet(each)
        frame[frame.columns[::-1]].to_parquet(each)
    for name, x in ppl_vae.encode(run, path).items():
        np.testing.assert_allclose(x, own[name], rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="is the folder of a run, and no data"):
        ppl_vae.encode(run, run.folder)
    monkeypatch.setattr(memory, "available_memory", lambda: 100.0)
    with pytest.raises(InputError, match=r"rows of .*moved, which are read at once, take"):
        ppl_vae.encode(run, path)
