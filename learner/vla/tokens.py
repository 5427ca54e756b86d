"""The tokenizer that an artifact carries: one file, its pad id, and proof that it gives the ids of the library's tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from poco.artifact import sha256
from poco.errors import ArtifactError, UsageError
from poco.learner.vla.checkpoint import read_object
from poco.vla import Prompt

FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """The bytes of tokenizer.json and a tokenizer of both kinds made of its folder."""

    payload: bytes
    pad_id: int
    ours: Any
    theirs: Any

    def prompt(self, template: str, length: int) -> Prompt:
        """Return the rule of an artifact whose prompts have `length` tokens."""
        return Prompt(
            template="task_and_state" if template == "task_and_state" else "task",
            length=length,
            pad_id=self.pad_id,
            tokenizer=FILE,
            tokenizer_sha256=sha256(self.payload),
        )

    def encode(self, text: str, length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return tokens [1, length] and mask of `text`; raises ArtifactError if the library's tokenizer gives others."""
        ids = self.ours.encode(text).ids[:length]
        theirs = self.theirs(text, max_length=length, truncation=True)["input_ids"]
        if list(theirs) != ids:
            raise ArtifactError(
                f"{FILE} gives other tokens for {text!r} than the tokenizer of the library: give --tokenizer the folder of the "
                "tokenizer that the policy was trained with"
            )
        tokens = np.full((1, length), self.pad_id, np.int64)
        tokens[0, : len(ids)] = ids
        return tokens, (np.arange(length) < len(ids))[None]


def read_tokenizer(folder: Path | None) -> Tokenizer:
    """Return the tokenizer in `folder`; raises UsageError without one, ArtifactError for one that does not work."""
    if folder is None or not (folder / FILE).is_file():
        where = "is not given" if folder is None else f"{folder} holds no {FILE}"
        raise UsageError(
            f"--tokenizer {where}, and no LeRobot checkpoint holds a tokenizer: give the folder of the one that the policy was "
            "trained with"
        )
    from tokenizers import Tokenizer as Fast
    from transformers import PreTrainedTokenizerFast

    file = folder / FILE
    try:
        ours = Fast.from_file(str(file))
        theirs = PreTrainedTokenizerFast(tokenizer_file=str(file))
    except Exception as error:  # tokenizers raises plain Exceptions
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(f"tokenizer {file} is not readable ({reason}): copy it again") from error
    ours.no_padding()
    ours.no_truncation()
    config = read_object(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    named = config.get("pad_token") or "<pad>"
    word = named["content"] if isinstance(named, dict) else str(named)
    pad_id = ours.token_to_id(word)
    if pad_id is None:
        raise ArtifactError(
            f"tokenizer {folder} does not know its padding token {word!r}: copy tokenizer_config.json beside it"
        )
    return Tokenizer(file.read_bytes(), pad_id, ours, theirs)
