"""What an encoder learns to tell besides, from numbers that the robot lacks."""
