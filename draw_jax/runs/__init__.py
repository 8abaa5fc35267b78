"""The run directory: what a run leaves, verified when it is read."""
