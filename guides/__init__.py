"""Guides q(z|x), one idea a file."""
