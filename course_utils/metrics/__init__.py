"""Floor 3: metrics, one task per file."""
