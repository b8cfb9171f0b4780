"""Commands that make and judge policies."""
