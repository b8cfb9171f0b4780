"""Stands for `lerobot.utils`."""
