"""Policies of ours inside LeRobot, where their type is ``lfm``: its folder, written and read.

LeRobot itself is not imported here. What runs such a folder inside LeRobot is a distribution of its
own, ``integrations/lerobot_policy_lfm``, which shares `fields` with this package.
"""
