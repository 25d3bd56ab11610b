"""The command line: `sparsenet COMMAND`."""
