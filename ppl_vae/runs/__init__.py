"""A run on disk: its record, its checkpoints, which programs it may execute, and how it is opened."""
