"""Training: fit, checkpoints, the run folder."""
