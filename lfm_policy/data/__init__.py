"""Demonstrations: reading, checking, normalising, and gathering batches of windows."""
