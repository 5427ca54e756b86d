"""Whether a policy that learns and an artifact are the same one: the expert may differ, everything else must not."""

from __future__ import annotations

from pathlib import Path

from poco.artifact import Artifact
from poco.errors import ArtifactError
from poco.learner.vla.policy import VlaPolicy
from poco.learner.vla.tokens import read_tokenizer
from poco.vla import Vla


def check_same(policy: object, checkpoint: Path, artifact: Artifact, vla: Vla) -> VlaPolicy:
    """Return the `policy` of our `checkpoint`; raises ArtifactError unless it is that of `artifact` but for its expert."""
    where = f"checkpoint {checkpoint}"
    if not isinstance(policy, VlaPolicy):
        raise ArtifactError(f"{where} is no vision-language-action policy: export it with `poco-export policy`")
    if policy.specification.told != artifact.specification:
        raise ArtifactError(
            f"{where} was trained under another specification than {artifact.path} was exported with: export its LeRobot "
            "checkpoint with `poco-export vla` and that specification"
        )
    if policy.network.frozen_sha256 != vla.frozen_sha256:
        raise ArtifactError(
            f"{where} was trained beside other frozen weights ({policy.network.frozen_sha256[:12]}) than {artifact.path} was "
            f"exported with ({vla.frozen_sha256[:12]}): give the artifact of the LeRobot checkpoint that was adopted"
        )
    if read_tokenizer(Path(policy.network.tokenizer)).prompt(vla.prompt.template, vla.prompt.length) != vla.prompt:
        raise ArtifactError(
            f"the tokenizer in {policy.network.tokenizer} is not the one that {artifact.path} was exported with: put that one there"
        )
    if policy.eyes is not None and policy.eyes.cameras != vla.cameras_used:
        raise ArtifactError(
            f"{where} sees through {', '.join(policy.eyes.cameras)}, {artifact.path} through {', '.join(vla.cameras_used)}: adopt "
            "or export it with the same --cameras"
        )
    return policy
