"""Several processes that train together take the steps of one, and whatever happens in one of them happens in all."""

from functools import partial
from typing import Any

import pytest
import torch
from support.ranks import together
from support.shared_noise import CASES

from ppl_vae.data.protocol import Shard
from ppl_vae.training.distributed import World, world
from ppl_vae.training.noise import SeededNoise, TorchNoise

Told = list[dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return together("support.shared_noise:train", tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return together("support.rank_events:events", tmp_path_factory.mktemp("events"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one_at_the_same_noise(trained: Told, case: str) -> None:
    first, second = (each[case] for each in trained)
    assert first["digest"] == second["digest"], "the parameters are not bit for bit the same"
    assert first["weights"] < 2e-6
    ours, theirs = first["lines"]
    assert len(ours) == len(theirs) > 1
    for line, other in zip(ours, theirs, strict=True):
        for part in ("valid", "train"):
            assert line.get(part, {}).keys() == other.get(part, {}).keys()
            for name, x in line.get(part, {}).items():
                assert x == (other[part][name] if isinstance(x, dict) else pytest.approx(other[part][name], 1e-5, 2e-5))


def test_an_error_of_one_is_that_of_all(events: Told) -> None:
    for told in events:
        assert told["agreed"] == [
            ["InputError", "what is wrong", [], ["--fix"]],
            ["NumericalError", "not finite", [1, 5], None],  # rows 0 and 2 of every other row from 1 on
        ]


def test_a_number_that_is_not_finite_stops_all_at_the_same_step(events: Told) -> None:
    first, second = (each["not_finite stop"] for each in events)
    assert first == second
    (kind, message, rows), step, _, (place, number), _ = first
    assert kind == "NotFinite"
    assert step == place // 8
    assert rows == [place % 8]
    assert f"in rows {number} of the data" in message


def test_a_step_that_is_not_finite_is_skipped_by_all(events: Told) -> None:
    first, second = (each["not_finite skip"] for each in events)
    assert first == second
    told, step, _, _, lines = first
    assert (told, step) == ([], 6)
    assert [line["skipped"] for line in lines] == [1, 1]


def test_a_signal_to_one_stops_all_after_the_same_step(events: Told) -> None:
    assert [each["signalled"] for each in events] == [[3, 143], [3, 143]]


def test_processes_that_drift_apart_are_found(events: Told) -> None:
    for each in events:
        kind, message, _ = each["drifted"]
        assert kind == "NumericalError"
        assert "no longer the same parameters" in message


def test_a_batch_norm_moves_by_all_rows(events: Told) -> None:
    first, second = (each["batch_norm"] for each in events)
    assert first[0]
    assert first == second


def test_compiled_steps_are_those_of_the_programs(events: Told) -> None:
    first, second = (each["compiled"] for each in events)
    how, digest, far = first
    assert how == {"captured": True, "products": "mm", "processes": 2}
    assert digest == second[1]
    assert far < 1e-5


def test_all_know_from_which_step_on_a_run_is_no_longer_compiled(events: Told) -> None:
    first, second = (each["fallen_back"] for each in events)
    assert first == second
    assert first[0] == 3


@pytest.mark.parametrize("capture", [False, True])
def test_a_row_that_stands_in_for_none_counts_nothing_be_it_finite_or_not(events: Told, capture: bool) -> None:
    first, second = (each[f"stood_in {capture}"] for each in events)
    assert first == second
    assert first[:2] == [3, 0], "steps, and those that were skipped"


def test_processes_with_other_data_are_refused(events: Told) -> None:
    for each in events:
        kind, message, _ = each["other_data"]
        assert kind == "InputError"
        assert message == "rows.npy is not the same for all processes: give each of them the same"


def test_results_of_parts_are_put_together(events: Told) -> None:
    for each in events:
        value, elbo, remarks, one = each["divided"]
        assert value == elbo == list(range(7))
        assert remarks == ["said twice", "from 0", "from 3"]
        assert one == [0]


def test_a_process_alone_exchanges_nothing() -> None:
    here = world()
    assert here.alone
    assert here.first
    assert here.gathered(3) == [3]
    assert here.seed(5) == 5
    assert isinstance(here.noise("cpu", 0), TorchNoise)
    assert here.divided(4, lambda part: part, last=True) == slice(0, 4)


def test_the_noise_of_a_step_depends_on_seed_process_and_step() -> None:
    def drawn(rank: int, steps: int) -> list[float]:
        noise, found = SeededNoise(partial(World(Shard(rank, 3)).seed, 7)), []
        for _ in range(steps):
            noise.begin()
            found.append(torch.rand(()).item())
        return found

    assert drawn(0, 4) == drawn(0, 4)
    assert len({*drawn(0, 4), *drawn(1, 4), *drawn(2, 4)}) == 12
    noise = SeededNoise(partial(World(Shard(1, 3)).seed, 7))
    noise.restore({"noise.step": torch.tensor(2)})
    noise.begin()
    assert torch.rand(()).item() == drawn(1, 3)[2]


def test_noise_put_back_within_a_step_is_that_of_the_step() -> None:
    noise = SeededNoise(partial(World(Shard(1, 2)).seed, 7))
    noise.begin()
    before = noise.state()
    first = torch.rand(3)
    noise.restore(before)
    assert torch.rand(3).equal(first)


def test_noise_of_one_process_goes_on_as_that_of_several_at_the_same_step() -> None:
    noise = SeededNoise(partial(World(Shard(1, 2)).seed, 7))
    noise.restore({"optimizer.step.a": torch.tensor(12.0), "rng": torch.zeros(3)})
    assert noise.step == 12
