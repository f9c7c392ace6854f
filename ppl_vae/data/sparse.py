"""Sparse matrices of SciPy, which trusts what it is given."""

from collections.abc import Callable
from typing import Any

from ppl_vae.core.errors import InputError


def well_formed(make: Callable[[], Any], where: str) -> Any:
    """A sparse matrix whose indices are those of its shape: SciPy relies on it, and would read outside of its memory.

    Raises:
        InputError: it is damaged.
    """
    try:
        found = make()
        if hasattr(found, "check_format"):
            found.check_format()
    except (ValueError, TypeError) as error:
        raise InputError(f"{where} is damaged: {error}") from error
    return found
