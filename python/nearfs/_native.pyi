"""The compiled half of nearfs (native/binding). Written by hand and checked against the extension by stubtest."""

__all__ = ["__VERSION__"]

__VERSION__: str
