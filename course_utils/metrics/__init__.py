"""Floor 2: how good an answer is, one task a file."""
