"""Generative models p(z) p(x|z), one idea a file. Copy one (`ppl-vae new DIR`), edit a line, fit it."""
