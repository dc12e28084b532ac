"""The version of the package, which records, caches and the distribution's metadata state."""

__version__ = "0.1.0"
