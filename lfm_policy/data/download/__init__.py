"""Public datasets, fetched and checked."""
