"""An independent reader and checker of CernVM-FS repositories.

Owns a second opinion: everything here is written from the format specification in plain Python and shares no code
with the native engine, so that it can judge what the engine writes. It does not own speed, networking or writing
(`forge` writes repositories for tests only). Nothing here is shared between threads.
"""
