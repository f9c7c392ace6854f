"""The checks of `check`: one concern a file, each `check(subject) -> Iterator[Finding]`."""
