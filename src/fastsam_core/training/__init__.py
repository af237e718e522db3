"""Training of the built-in model: data, scene generator, loop, validation and export.

Everything here is imported on demand; ``python -m fastsam_core.training --help`` is the entry point.
"""
