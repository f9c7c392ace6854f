"""Data beyond memory: rows that are read from files when they are needed."""

from ppl_vae.data.streams.stream import Stream

__all__ = ["Stream"]
