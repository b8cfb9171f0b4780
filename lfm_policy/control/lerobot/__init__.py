"""Robots of an installed LeRobot, as ``robot.yaml`` describes them; imported when asked for."""
