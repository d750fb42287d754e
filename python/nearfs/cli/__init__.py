"""Commands, one module each. Only `nearfs.cli.output` prints."""
