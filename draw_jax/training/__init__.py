"""The one loop, its jitted update and what stops it."""
