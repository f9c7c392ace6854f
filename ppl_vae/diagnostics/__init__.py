"""Diagnostics: estimators side by side."""
