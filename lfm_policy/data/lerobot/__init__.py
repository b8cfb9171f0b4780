"""LeRobot datasets, read and written."""
