"""Apache and nginx in front of a repository's storage: what is written for them, and how they take it over.

Owns: the pieces of configuration, their places, activation and removal. Does not own: when that is done (publisher and
replica decide), nor `nearfs serve`, which needs none of it.
Threading: root's commands, one at a time; every file is replaced as a whole.
"""
