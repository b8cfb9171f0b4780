"""The version of the runtime, read by the build and by exports."""

__version__ = "0.1.0"
