"""Hold the commands that send, check and rebuild publications, and the arguments that they share."""
