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


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What of versions and machine two records tell otherwise; what one of them does not tell is left out."""
    ours, theirs = ({**record.get("versions", {}), **record.get("machine", {})} for record in (before, now))
    for name, value in theirs.items():
        if ours.get(name, value) != value:
            yield f"{name}: {ours[name]}, now {value}"


def _processor() -> str:
    """Its name, as far as the system tells it."""
    try:
        lines = INFO.read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
