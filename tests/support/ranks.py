"""Several processes of a test: each calls the same function, and what each returns comes back as JSON.

`python -m support.ranks support.MODULE:FUNCTION FOLDER` is one of them.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

TESTS = Path(__file__).parents[1]
WITHIN = 240


def together(function: str, folder: Path, size: int = 2) -> list[Any]:
    """What `function`, such as `support.shared_noise:train`, returns in each of several processes."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "support.ranks", function, str(folder)],
            env=environment | {"RANK": str(rank), "WORLD_SIZE": str(size)},
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    try:
        told = [process.communicate(timeout=WITHIN)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * size, "\n".join(told)
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(size)]


def one(function: str, folder: Path) -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=60))
    module, _, name = function.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)(folder)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # which the others notice
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)  # as the command line does: threads of a process group may abort a process at its end


if __name__ == "__main__":
    one(sys.argv[1], Path(sys.argv[2]))
