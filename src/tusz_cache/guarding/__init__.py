"""Guarding: say on evidence whether training may read from a directory. Refuses by default."""
