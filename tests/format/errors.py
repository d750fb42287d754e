"""Errors of the reader: each names the object and what is wrong with it. Plain exceptions, no threads involved."""

from __future__ import annotations


class FormatError(Exception):
    """Bytes that do not follow the format; the text is a whole problem sentence."""


class MissingObject(FormatError):
    """An object that is referred to and is not in the store."""
