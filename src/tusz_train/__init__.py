"""tusz_train: train and score seizure detectors on what `tusz_cache` admits."""
