"""Training: one step, the loop over epochs, schedule and progress. Nothing here writes a file."""
