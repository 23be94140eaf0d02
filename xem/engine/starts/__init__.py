"""Where the iteration begins: `start.STARTS` are the starts by name."""
