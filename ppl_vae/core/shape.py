"""What has been read from a file held against its shape, so that a damaged file is named and not stumbled over."""

import re
from typing import Any

from ppl_vae.core.errors import InputError


def check_shape(value: Any, shape: Any, where: str, do: str) -> None:
    """Check every part of a value that was read from JSON.

    Args:
        shape: its type; a `TypedDict` for an object, whose keys have to be there and are all that may be.
        where: the file, for the message.
        do: what the user can do.

    Raises:
        InputError: it is not of that shape.
    """
    import typeguard  # here, so that help is quick

    try:
        typeguard.check_type(value, shape, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS)
    except typeguard.TypeCheckError as error:
        raise damaged(where, _plain(str(error)), do) from None


def damaged(where: object, what: object, do: str) -> InputError:
    """The error for a file that does not hold what was written."""
    return InputError(f"{where} is damaged: {what}\n{do}")


def _plain(told: str) -> str:
    """The first line of what typeguard says, without its words for Python's types."""
    first = told.partition("\n")[0].replace("did not match any element in the union:", "is of a wrong type")
    first = first.replace("value of key ", "").replace("did not match any element in the literal", "is of a wrong type")
    return re.sub(r"^dict ", "it ", re.sub(r" of dict ", " ", first))
