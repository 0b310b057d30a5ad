"""What is predicted for each region: a head is a small network with its targets, loss and predictions."""
