"""Speed and memory of this project next to what people use now; see ``python -m benchmarks --help``."""
