"""Data: what a user names, read, checked, split and served in batches."""

from ppl_vae.data.dataset import Dataset, open_data
from ppl_vae.data.opening import as_data
from ppl_vae.data.protocol import Data

__all__ = ["Data", "Dataset", "as_data", "open_data"]
