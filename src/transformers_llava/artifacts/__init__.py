"""What lies on disk: how files are read that somebody else may have written, and within which bounds."""
