"""Floor 2: the operators of `course_utils.ops` as models run them.

Every function here has the name, the arguments and the results of its twin in `ops`, the one to read.
Tests hold both to the same numbers, forward and backward. On a GPU, RoIAlign runs as a Triton kernel.
"""
