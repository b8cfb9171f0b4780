"""Stands for LeRobot where it is not installed."""
