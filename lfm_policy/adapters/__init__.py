"""Policies of this package where other packages expect one of theirs."""
