"""Where it runs: Ray wiring and the commands. No arithmetic."""
