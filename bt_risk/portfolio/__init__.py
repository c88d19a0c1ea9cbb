"""The book: instruments, positions, working orders, exposure and the equity curve."""
