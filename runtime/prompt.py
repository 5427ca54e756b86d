"""From the task and the state to the tokens of a vision-language-action policy, through the tokenizer that its artifact carries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poco.artifact import Artifact
from poco.errors import ArtifactError, UsageError
from poco.refusal import Reason, Refused
from poco.vla import Vla
from poco.vla_numbers import prompt_text

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

TASK_CHARACTERS_MAX = 1000
STATE_LEVELS = 33
"""So many states are tried for the longest prompt that a task may need, where the prompt holds the state."""


class Prompts:
    """The tokenizer of one artifact; policy process and gate. It writes no file and asks no hub."""

    def __init__(self, artifact: Artifact, vla: Vla) -> None:
        """Load the tokenizer; raises ArtifactError where `tokenizers` is not installed or the file is not one."""
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise ArtifactError(
                f"artifact {artifact.path} is told its task in words, for which tokenizers is needed: install poco-robot[prompt]"
            ) from None
        self._vla = vla
        try:
            self._tokenizer = Tokenizer.from_buffer(artifact.tokenizer)
        except Exception as error:  # the library's own class shares no base with ours
            raise Refused(
                Reason.MALFORMED,
                f"artifact {artifact.path}: {vla.prompt.tokenizer} is no tokenizer ({' '.join(str(error).split())[:200]}): export "
                "the policy again",
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def count(self, task: str, state: Floats) -> int:
        """Return how many tokens `task` and the normalised `state` [S] have, before anything is cut off."""
        return len(self._tokenizer.encode(prompt_text(self._vla, task, state)).ids)

    def tokens(self, task: str, state: Floats) -> tuple[Tokens, Mask]:
        """Return tokens [1, L] and which of them count [1, L] for `task` and the normalised `state` [S].

        What is longer than L is cut off; `check_task` says before motion that nothing will be.
        """
        length = self._vla.prompt.length
        found = self._tokenizer.encode(prompt_text(self._vla, task, state)).ids[:length]
        ids, mask = np.full((1, length), self._vla.prompt.pad_id, np.int64), np.zeros((1, length), np.bool_)
        ids[0, : len(found)], mask[0, : len(found)] = found, True
        return ids, mask


def check_task(artifact: Artifact | None, task: str) -> None:
    """Raise UsageError unless `task` is what the policy of `artifact` (None: no artifact) needs to be told; before motion."""
    vla = None if artifact is None else artifact.manifest.vla
    if artifact is None or vla is None:
        if task:
            who = "who chooses here" if artifact is None else f"the policy {artifact.path}"
            raise UsageError(f"--task is given, but {who} is not told a task in words: leave it out")
        return
    if not task.strip():
        raise UsageError(
            f'the policy {artifact.path} is told its task in words: give --task, such as --task "{vla.golden_tasks[0].strip()}"'
        )
    if len(task) > TASK_CHARACTERS_MAX or not task.isprintable():
        raise UsageError(
            f"--task has {len(task)} characters, some of which may not be printable: give one line of at most "
            f"{TASK_CHARACTERS_MAX}"
        )
    prompts, length = Prompts(artifact, vla), vla.prompt.length
    levels = (np.full(vla.state.size, level, np.float32) for level in np.linspace(-2.0, 2.0, STATE_LEVELS))
    needed = max(prompts.count(task, state) for state in levels)
    if needed > length:
        raise UsageError(
            f"--task has {needed} tokens with everything around it, the policy takes {length}: say it shorter"
        )
