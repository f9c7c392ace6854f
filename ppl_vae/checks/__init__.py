"""The checks of `check`, one concern in one file. A check is a generator, `check(subject) -> Iterator[Finding]`.

A new check is a generator in a file of this folder and a line in `CHECKS` of `pair.py`.
"""
