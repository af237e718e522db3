"""What the widget knows, without Qt and without napari: candidates, filters, picks, edits of labels."""
