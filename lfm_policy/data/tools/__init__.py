"""Datasets from one format to another."""
