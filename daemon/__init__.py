"""The daemon: windows, frames, engines and supervision."""

__version__ = "0.1.0"
