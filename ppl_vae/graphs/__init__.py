"""Graphs: a pass of programs as one graph of tensor operations, compiled, with no Pyro left in it."""
