"""Compose the licenses of a checkpoint's parts."""
