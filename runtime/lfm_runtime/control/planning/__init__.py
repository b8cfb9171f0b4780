"""Which chunk acts, and when the next one is asked for."""
