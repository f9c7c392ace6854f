"""A loss of power at any operation on files: nothing that was kept before is lost, and the run goes on exactly.

The operations of a fit are recorded in its process. After each of them two disks are made: one that has kept nothing
but what was flushed, and one that has kept all names, and zeros in the files that were not flushed.
"""

import pickle
import shutil

import pytest
from support.file_faults import Operation
from support.fitting_trials import Fit
from support.power import Disk, write

from ppl_vae.runs.run import Run


def powerless(fit: Fit, every: int) -> tuple[int, int]:
    """How many states of the disk there were, and how many of them held a run."""
    top = fit.folder("power")
    top.mkdir()
    run = top / "run"
    recorded = fit.trials.folder / "operations"
    (ended,) = fit.trials(fit.fit(run, fault={"kind": "count", "into": str(recorded), "inside": str(top)}))
    assert ended.code == 0, ended.told
    operations: list[Operation] = pickle.loads(recorded.read_bytes())
    disk, seen, begun, saved = Disk(top), set(), 0, -1
    for n, operation in enumerate(operations, 1):
        disk.do(operation)
        if operation[0] == "fsync" and operation[1] == str(run) and "manifest.json" in disk.find(str(run / "x"))[0].now:
            saved = max(int(path.rpartition("-")[2]) for path in disk.find(str(run / "checkpoints" / "x"))[0].now)
        if n % every:
            continue
        for kept in ("lost", "names"):
            state = disk.state(kept)
            if (key := hash(tuple(sorted(state.items())))) in seen:
                continue
            seen.add(key)
            shutil.rmtree(top)
            top.mkdir()
            write(state, top)
            if saved >= 0:
                assert (run / "config.json").is_file(), (n, kept, "the run is lost")
                assert Run(run).checkpoints.steps[-1] >= saved, (n, kept)
            begun += (run / "config.json").is_file()
            fit.assert_sound(run)
            fit.assert_ends_exactly(run)
    return len(seen), begun


def test_a_loss_of_power_at_a_few_operations(small_fit):
    states, begun = powerless(small_fit, 37)
    assert states > 5 < begun + 5


@pytest.mark.faults
def test_a_loss_of_power_at_every_operation(small_fit, capsys):
    states, begun = powerless(small_fit, 1)
    with capsys.disabled():
        print(f"\n{states} disks after a loss of power, {begun} with a run: 0 lost, {states} ended with the same bits")
