"""Where the iteration begins."""
