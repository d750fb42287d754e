"""Ways to reach a tree that is somewhere else, each behind the one interface of `harness.contender`."""
