"""On what a run was made: versions, processor, threads. Its bits depend on them."""

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy
import pyro
import torch

import ppl_vae
from ppl_vae.runs.record_shape import Machine

INFO = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    """Of Python and of the packages that compute."""
    return {
        "ppl_vae": ppl_vae.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "pyro": pyro.__version__,
        "numpy": numpy.__version__,
    }


def machine() -> Machine:
    """The processor, what of it torch uses, and the threads that torch takes now."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def differences(record: Mapping[str, Any]) -> Iterator[str]:
    """What is not as a run's record says it was, as `name: before, now`; what it does not say is left out."""
    before = {**record.get("versions", {}), **record.get("machine", {})}
    for name, now in [*versions().items(), *machine().items()]:
        if before.get(name, now) != now:
            yield f"{name}: {before[name]}, now {now}"


def _processor() -> str:
    """Its name, as far as the system tells it."""
    try:
        lines = INFO.read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
