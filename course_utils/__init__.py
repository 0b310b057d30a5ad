"""Detection and segmentation, one readable function per idea. Import what you need from the submodules."""
