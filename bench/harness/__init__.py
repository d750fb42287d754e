"""What every scenario and every contender shares: commands, counts, results."""
