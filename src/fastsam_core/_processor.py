"""What the processor can do."""

from __future__ import annotations

__all__ = ["multiplies_bf16"]


def multiplies_bf16() -> bool:
    """Tell whether the processor has instructions for bfloat16.

    With them networks take about half the time of float32; without them bfloat16 is emulated, and takes twice the time.
    """
    import torch

    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(asked()) if asked is not None else False
