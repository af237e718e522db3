"""Train the built-in model: ``python -m fastsam_core.training --data FOLDER --run FOLDER``."""

if __name__ == "__main__":  # processes that draw scenes import this file anew, and need nothing of it
    from fastsam_core.cli._console import run_module
    from fastsam_core.training.run import main

    run_module(main)
