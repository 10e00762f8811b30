"""Version of the package; a file of its own, since every layer may name it."""

__version__ = "0.3.0.dev0"
