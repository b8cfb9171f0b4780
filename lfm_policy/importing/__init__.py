"""Policies of other frameworks: their files read, and written as checkpoints of this one."""
