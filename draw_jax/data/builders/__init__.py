"""Our own tensorflow-datasets builders: they prepare a set from its original files."""
