"""Configurations that come with the package, found by name (see `lfm_policy.config`)."""
