"""Finished arrays in, pictures out."""
