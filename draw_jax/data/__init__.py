"""Data sets: configuration -> split -> batch."""
