"""Measurements. Run one as `python -m bench.NAME`."""
