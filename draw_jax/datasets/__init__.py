"""Data sets: tensorflow-datasets builders of our own, and a reader of prepared folders."""
