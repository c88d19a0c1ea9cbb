"""The book: instruments, positions, working orders, exposure and results of the day."""
