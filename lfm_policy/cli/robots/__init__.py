"""Commands that let a policy act."""
