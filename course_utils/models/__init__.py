"""Floor 4: networks whose forward passes read like the lecture's figures, one network per file.

Each takes its parts as keyword arguments with the paper's numbers as defaults, and each file has a builder
`small` for a laptop. A segmentation network maps images `[b, 3, h, w]` in 0..1 to one score per class and
pixel, `[b, classes, h, w]`; the largest score is the answer, a softmax turns them into probabilities.
"""
