"""Assemble the model that trains, and store what it has become."""
