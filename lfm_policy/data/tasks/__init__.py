"""Datasets of several tasks: which one an episode shows, and several datasets in one."""
