"""Write checkpoints whole, resume from them, and end on a signal."""
