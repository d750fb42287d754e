"""Client configuration: the syntax of the files, their order, and what the values mean.

Owns no state. Nothing in here imports the native extension, `cryptography`, `rich` or `click`.
"""
