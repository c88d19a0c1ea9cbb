"""The state file: write it, compare it with the broker, and go on after a crash."""
