"""Which files a user has named for a run: naming a program again once is enough.

A run may come from somebody else, so what it is trusted with is not kept in it, but in the user's own state folder: for
each run's folder, the file that was named and its SHA-256. What is executed later is that file, if its hash is still
the same, and never what lies in the run.
"""

import contextlib
import json
from pathlib import Path

import platformdirs

from ppl_vae.core.files import write_json
from ppl_vae.programs.find import sha256_of


def remember(folder: Path, sha256: str, path: Path, attribute: str) -> None:
    """Note that `path` was named for the run in `folder`. A state folder that can't be written is no error."""
    with contextlib.suppress(OSError):
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        known = _known()
        known.setdefault(str(folder.resolve()), {})[sha256] = [str(path.resolve()), attribute]
        write_json(place, known)


def recall(folder: Path, sha256: str) -> str | None:
    """The program of that hash that was named for the run, as `file.py:Name`; None if there is none any more."""
    path, attribute = _known().get(str(folder.resolve()), {}).get(sha256, ("", ""))
    if not path or not Path(path).is_file() or sha256_of(Path(path)) != sha256:
        return None
    return f"{path}:{attribute}" if attribute else path


def _place() -> Path:
    return platformdirs.user_state_path("ppl_vae") / "named.json"


def _known() -> dict[str, dict[str, list[str]]]:
    try:
        return json.loads(_place().read_bytes())
    except (OSError, ValueError):
        return {}
