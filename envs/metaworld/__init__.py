"""Meta-World as gymnasium environments, one for each of its fifty tasks."""
