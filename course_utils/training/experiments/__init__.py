"""The experiments behind the records: each changes one thing at a time, from the same seed."""
