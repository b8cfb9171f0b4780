"""Stands for `lerobot.utils.errors`."""


class DeviceNotConnectedError(ConnectionError):
    pass
