"""Models beside the paper's own: the baselines of its Table 1."""
