"""The version of distdl."""

__version__ = "0.1.0"
