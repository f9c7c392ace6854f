"""Variational autoencoders as Pyro programs, with numbers that can be trusted."""

__version__ = "0.1.0"
