"""The verbs of `cvmfs_swissknife`, a module for each group of them; `verbs` lists them."""
