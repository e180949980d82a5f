"""Moving bytes from a source to a target: lanes read and write, the engine decides, the journal remembers."""
