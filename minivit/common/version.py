"""The version of this package; it stands below all rooms, so that each may read it."""

__version__ = "0.3.0"
