"""What connects napari's layers and mouse with the models; no widgets here."""
