"""From an admitted cache to batches on the device: which windows, in which order, read, moved and varied."""
