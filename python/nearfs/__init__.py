"""CernVM-FS rebuilt: the same formats and commands, an engine in Rust, driven from Python.

This package's root owns nothing and imports nothing: commands must be able to start (and fork) before anything heavy
is loaded.
"""
