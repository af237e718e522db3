"""FastSAM in napari: candidates from one pass of the network, picked by points, shapes and the mouse."""
