"""The commands of `cvmfs_server`, a module for each group of them; `commands` lists them."""
