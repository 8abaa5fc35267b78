"""Configurations: mnist.py is complete, the others override it."""
