"""Floor 1: pure tensor functions, one concept a file. Import from the file that holds the idea."""
