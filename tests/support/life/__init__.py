"""A scripted life of a repository: a model of its tree, random changes, and what must hold after each of them."""
