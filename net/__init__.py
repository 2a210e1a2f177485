"""Trio drivers around the core."""
