"""The trees that are published, exported and read in measurements."""
