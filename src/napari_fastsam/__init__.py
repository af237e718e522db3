"""FastSAM in napari: turns Points and Shapes layers into prompts."""
