"""Reports: ArviZ files and figures."""
