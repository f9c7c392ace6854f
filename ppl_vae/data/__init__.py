"""Data: what a user names, read, checked, split and served in batches."""

from ppl_vae.data.dataset import Dataset, open_data

__all__ = ["Dataset", "open_data"]
