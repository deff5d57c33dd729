"""What is done: a pure library. No Ray, no command line, no environment variables."""
