"""Exported policies: their files, checked, and their graphs, run."""
