"""robomimic files, read and written."""
