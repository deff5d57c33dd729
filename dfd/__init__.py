"""Where it runs: the commands and their Ray wiring. No arithmetic."""
