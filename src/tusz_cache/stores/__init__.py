"""Sources: where a cache comes from. `opening.open_source` understands any fsspec URL or path."""
