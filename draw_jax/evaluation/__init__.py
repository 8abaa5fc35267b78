"""Exact passes over a whole split."""
