"""Policies of LeRobot: configuration, statistics, weights, downloads."""
