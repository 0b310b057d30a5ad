"""What is asked about a region: each head is a small network with its targets, its loss and its answers."""
