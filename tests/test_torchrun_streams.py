"""Data beyond memory by several processes under torchrun: killed within an epoch, they end with the same bits."""

from pathlib import Path

import pytest
from support.streamed import npy, parquet
from support.torchrun import FIT, bare, both, ended, kill, outcome, start, within_an_epoch

import ppl_vae

pytestmark = pytest.mark.slow
STEPS = 48
"""Steps of an epoch: 480 training rows, which are 30 blocks in 10 windows or more."""
MODULE = "support.small_streams"
TYPED = [*FIT, "--batch-size", "10", "--checkpoint-every", "7", "--epochs", "6", "--stream", "on", "--standardize"]
WAYS = {"rows.npy": ["--compile", "on"], "rows": ["--compile", "off", "--binarize", "none"]}


@pytest.fixture(scope="module", params=WAYS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with data, a run that nothing has stopped, and what to type for another one."""
    folder = tmp_path_factory.mktemp("streams")
    (npy if request.param == "rows.npy" else parquet)(folder)
    typed = [*TYPED, "--data", request.param, *WAYS[request.param]]
    codes, _, told = both(bare(folder, *typed, "--out", "whole", module=MODULE))
    assert codes == [0, 0], told
    record = ppl_vae.Run(folder / "whole").record
    assert record["data"]["stream"]
    assert (record["step"]["processes"], record["step"]["captured"]) == (2, request.param == "rows.npy")
    return folder, typed


def test_a_stream_goes_on_with_the_same_bits_resumed_and_started_again(whole: tuple[Path, list[str]]) -> None:
    folder, typed = whole
    run = folder / "killed"
    process = start(folder, *typed, "--out", "killed", module=MODULE)
    within_an_epoch(run, process, STEPS)
    kill(process, 0)
    code, _, told = ended(process)
    assert code == 1
    assert "(SIGKILL)" in told
    at = ppl_vae.Run(run).step("last")
    assert at % STEPS, "stopped within an epoch"
    process = start(folder, "resume", "killed", module=MODULE, torchrun=("--max-restarts=1",))
    within_an_epoch(run, process, STEPS, after=at + STEPS)
    kill(process, 1)
    code, _, told = ended(process)
    assert (code, told.count("objective: ")) == (0, 2), told
    assert outcome(run) == outcome(folder / "whole")
