"""Recordings of what a robot saw and did."""
