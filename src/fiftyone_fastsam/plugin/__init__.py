"""What FiftyOne loads as a plugin: everything lives in the installed package, so that nothing is loaded twice."""

from fiftyone_fastsam.operators import register

__all__ = ["register"]
