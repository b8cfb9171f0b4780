"""One client of the server: from its first byte to its last answer."""
