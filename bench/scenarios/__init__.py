"""One file a question: each has `run(home, repeats) -> dict` and says what it measured against what."""
