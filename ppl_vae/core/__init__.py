"""What all other packages use: errors, files, parts by name, random states. Most of it does not import torch."""
