"""Models: logits of seizure for each sample of a window."""
