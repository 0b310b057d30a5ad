"""Floor 2: Triton kernels with the signatures of the operators they speed up, for CUDA tensors only.

Nothing needs them: each has a twin in course_utils.ops that gives the same numbers on every device.
"""
