"""robosuite tasks as gymnasium environments."""
