"""FastSAM in FiftyOne: writes masks onto whole datasets."""
