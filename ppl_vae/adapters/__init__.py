"""Fits as other libraries want them."""
