"""Commands in processes of their own, by the hundred: each is forked from one that has imported everything.

As a script it is that one: it reads a line of JSON from standard input for each set of trials, and answers with a line.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
EVERYTHING = (
    "torch._dynamo",  # which torch.optim imports when it is first used
    "ppl_vae.cli", "tyro.extras", "ppl_vae.runs.fitting", "ppl_vae.runs.lock", "ppl_vae.reports.figures",
    "ppl_vae.reports.style", "ppl_vae.models", "ppl_vae.guides", "ppl_vae.graphs.captured", "ppl_vae.graphs.compiled",
    "ppl_vae.training.captured", "ppl_vae.training.progress", "docstring_parser", "rich._emoji_codes",
)  # fmt: skip
LIMIT = 120.0  # seconds, after which a trial has hung


@dataclass(frozen=True)
class Trial:
    """`ppl-vae ARGS`, in a process of its own.

    Args:
        run: the folder that it writes.
        signum, seconds: a signal that it is sent so long after its start.
        fault: what `support.file_faults.install` takes.
    """

    args: list[str]
    run: str
    signum: int = signal.SIGKILL
    seconds: float | None = None
    fault: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a trial has ended: its exit code, or minus the signal that ended it; what it told; how long it took."""

    code: int
    told: str
    seconds: float


class Trials:
    """The process from which trials are forked. Call it with trials, which run at the same time."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS), "MPLBACKEND": "agg"}
        self.folder, command = folder, [sys.executable, "-W", "ignore", __file__]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=environment, text=True
        )

    def __call__(self, *trials: Trial) -> list[Ended]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([asdict(trial) for trial in trials]) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], 2 * LIMIT)
        assert ready, "the process of the trials has hung"
        return [Ended(**each) for each in json.loads(self.process.stdout.readline())]

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(timeout=30)
        finally:
            self.process.kill()
            self.process.stdout.close()


def serve() -> None:
    """Answer one line after another. Figures are not drawn, which would take most of the time, but written."""
    _import_everything()
    for n, line in enumerate(sys.stdin):
        children = [_begin(Trial(**each), f"trial-{n}-{i}.log") for i, each in enumerate(json.loads(line))]
        print(json.dumps([_wait(*child) for child in children]), flush=True)


def _import_everything() -> None:
    for name in EVERYTHING:
        importlib.import_module(name)
    from ppl_vae.reports import figures, style

    style._rendered = lambda figure, kind: f"a figure as {kind}".encode()  # type: ignore[assignment]
    figures.learning_curves = lambda metrics: None  # type: ignore[assignment, return-value]


def _begin(trial: Trial, log: str) -> tuple[int, Trial, str, float]:
    Path(log).touch()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = _act(trial, log)
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return child, trial, log, time.monotonic()


def _act(trial: Trial, log: str) -> int:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    import torch
    from support import file_faults

    import ppl_vae.cli

    torch.set_num_threads(1)
    if trial.fault:
        file_faults.install(Path(trial.run), **trial.fault)
    code = ppl_vae.cli.main(trial.args)
    file_faults.finish()
    return code


def _wait(child: int, trial: Trial, log: str, started: float) -> dict[str, Any]:
    sent = trial.seconds is None
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        now = time.monotonic() - started
        if pid:
            code = os.waitstatus_to_exitcode(status)
            told = Path(log).read_text(errors="replace")
            Path(log).unlink()
            return {"code": code, "told": told, "seconds": now}
        if not sent and now >= (trial.seconds or 0.0):
            os.kill(child, trial.signum)
            sent = True
        if now > LIMIT:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)


if __name__ == "__main__":
    serve()
