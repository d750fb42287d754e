"""nearfs: publish, serve and mount CernVM-FS repositories.

Owns the package's version. Imports nothing, so that every command starts fast and a mount can fork before the
compiled engine is loaded. Any thread may read it.
"""

__version__ = "0.1.0"
