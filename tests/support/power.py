"""What a disk may hold after a loss of power, from the operations on files before it.

A file is safe as it was when it was last flushed, and a folder's names are those that it had when it was last flushed.
Of all else a disk may have kept anything: nothing (`lost`), or the names and not what is in the files (`names`).
"""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from support.file_faults import Operation


@dataclass(eq=False)
class File:
    now: bytes = b""
    safe: bytes = b""

    def torn(self) -> bytes:
        """As long as it is now, with zeros where it was not flushed."""
        same = self.safe if self.now.startswith(self.safe) else b""
        return same + bytes(len(self.now) - len(same))


@dataclass(eq=False)
class Folder:
    now: "dict[str, File | Folder]" = field(default_factory=dict)
    safe: "dict[str, File | Folder]" = field(default_factory=dict)


class Disk:
    """A disk on which the folder `top` is there, and flushed."""

    def __init__(self, top: Path) -> None:
        self.top, self.root = PurePosixPath(top), Folder()

    def do(self, operation: Operation) -> None:
        name, path, other = operation
        if name == "failed":
            return
        folder, last = self.find(path)
        if path == str(self.top):
            if name == "fsync":
                self.root.safe = dict(self.root.now)
        elif name == "fsync":
            found = folder.now[last]
            found.safe = dict(found.now) if isinstance(found, Folder) else found.now  # type: ignore[assignment]
        elif name == "mkdir":
            folder.now.setdefault(last, Folder())
        elif name in ("write_bytes", "append"):
            file = folder.now.setdefault(last, File())
            assert isinstance(file, File)
            file.now = file.now + other if name == "append" else other
        elif name in ("replace", "rename"):
            into, new = self.find(other)
            into.now[new] = folder.now.pop(last)
        else:  # unlink, rmdir
            folder.now.pop(last, None)

    def find(self, path: str) -> tuple[Folder, str]:
        """The folder that a path lies in, and its last name."""
        parts = PurePosixPath(path).relative_to(self.top).parts
        folder = self.root
        for part in parts[:-1]:
            found = folder.now[part]
            assert isinstance(found, Folder)
            folder = found
        return folder, parts[-1] if parts else ""

    def state(self, kept: str) -> dict[str, bytes]:
        """The files of the disk after a loss of power, by their paths below `top`."""
        return dict(_files(self.root, kept, ""))


def _files(folder: Folder, kept: str, inside: str) -> "list[tuple[str, bytes]]":
    found: list[tuple[str, bytes]] = []
    for name, entry in (folder.safe if kept == "lost" else folder.now).items():
        if isinstance(entry, Folder):
            found += _files(entry, kept, f"{inside}{name}/")
        else:
            found.append((f"{inside}{name}", entry.safe if kept == "lost" else entry.torn()))
    return found


def write(state: dict[str, bytes], top: Path) -> None:
    """Make a state of a disk the content of `top`."""
    for name, content in state.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
