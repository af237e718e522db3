"""``python -m fastsam_core.cli``, the same as the command ``fastsam``."""

from __future__ import annotations

from fastsam_core.cli import main

if __name__ == "__main__":
    main()
