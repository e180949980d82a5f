"""Packing: each recording's overlapping windows become one run of blocks in plain arrays, bit for bit."""
