"""A checkpoint run by LeRobot alone: its own loader, preprocessor, policy and postprocessor, from raw observation to action."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float32]


class Library:
    """LeRobot's policy of a checkpoint with its processors."""

    def __init__(self, kind: str, checkpoint: Path, sizes: AbstractContextManager[None]) -> None:
        """Load the policy of the type `kind` in `checkpoint` while LeRobot builds it with `sizes`, which may be its own."""
        from lerobot.policies.factory import get_policy_class
        from lerobot.policies.pi0 import processor_pi0  # noqa: F401
        from lerobot.policies.pi05 import processor_pi05  # noqa: F401
        from lerobot.policies.smolvla import processor_smolvla  # noqa: F401
        from lerobot.processor import PolicyProcessorPipeline
        from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action

        with sizes:
            self.policy: Any = get_policy_class(kind).from_pretrained(checkpoint, local_files_only=True).eval()
            self._before = PolicyProcessorPipeline.from_pretrained(
                checkpoint, config_filename="policy_preprocessor.json"
            )
            self._after = PolicyProcessorPipeline.from_pretrained(
                checkpoint,
                config_filename="policy_postprocessor.json",
                to_transition=policy_action_to_transition,
                to_output=transition_to_policy_action,
            )

    def actions(self, state: Floats, frames: dict[str, npt.NDArray[np.uint8]], task: str, noise: Floats) -> Floats:
        """Return the actions [T, A] in physical units for `state` [S], `frames` u8 [H, W, 3] by image key, and `noise` [T, W]."""
        batch: dict[str, Any] = {"observation.state": torch.from_numpy(state), "task": task}
        for key, frame in frames.items():
            batch[key] = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
        batch = self._before(batch)
        given = {"noise": torch.from_numpy(noise)[None]}
        actions = self.policy.predict_action_chunk(batch, **given)
        result: Floats = self._after(actions)[0].numpy()
        return result
