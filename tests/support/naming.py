"""The names of parametrized tests, the same in every process."""

import re
from typing import Any


def named(value: Any) -> str:
    """Its `repr`, without the address of an object."""
    return re.sub(r" object at 0x[0-9a-f]+", "", repr(value))
