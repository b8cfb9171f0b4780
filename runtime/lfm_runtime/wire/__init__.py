"""The protocol between a robot and a policy server, and the robot's end of it."""
