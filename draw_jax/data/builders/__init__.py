"""Data sets: tensorflow-datasets builders of our own, and readers of prepared folders and of folders of pictures."""
