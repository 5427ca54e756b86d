"""Where a learner computes: the processor, or a GPU and with which precision."""

from __future__ import annotations

import torch

from poco.errors import UsageError


def chosen_device(name: str) -> torch.device:
    """Return the device that torch calls `name` and set this process up for it; raises UsageError if it is not there.

    On a GPU matrix products of float32 take their factors with 10 bits of mantissa (TF32), as the published code's do by default.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device is {name!r}, must be cpu or cuda, or cuda:1 for the second GPU") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device is {name}, must be cpu or cuda, or cuda:1 for the second GPU")
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise UsageError(
                f"--device is {name}, but torch {torch.__version__} sees {torch.cuda.device_count()} GPUs: install a driver and a "
                "torch built for CUDA, or use --device cpu"
            )
        torch.cuda.set_device(device.index or 0)
        torch.set_float32_matmul_precision("high")
    return device
