"""Detection and segmentation, one readable function per idea. Import what you need from the submodules."""

import os

# Before PyTorch is loaded: threads that wait sleep. On a busy machine those that spin take the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
