"""Students that see something else than their teacher, with an encoder of their own."""
