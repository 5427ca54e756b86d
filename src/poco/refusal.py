"""Why an offered policy is not taken: one reason for each way, so that a person and a count can tell them apart."""

from __future__ import annotations

from enum import StrEnum

from poco.errors import ArtifactError


class Reason(StrEnum):
    """The stages of the gate in their order; each refuses what the ones before let through."""

    TOO_LARGE = "too_large"
    UNSIGNED = "unsigned"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    KEY_EXPIRED = "key_expired"
    OLD_TRUST = "old_trust"
    MALFORMED = "malformed"
    ROLLBACK = "rollback"
    FAST_FORWARD = "fast_forward"
    EXPIRED = "expired"
    WRONG_ROBOT = "wrong_robot"
    WRONG_SPECIFICATION = "wrong_specification"
    EXTRANEOUS_FILE = "extraneous_file"
    MISSING_FILE = "missing_file"
    WRONG_HASH = "wrong_hash"
    WRONG_TENSORS = "wrong_tensors"
    NOT_FINITE = "not_finite"
    OPERATOR = "operator"
    GRAPH = "graph"
    GOLDEN = "golden"


class Refused(ArtifactError):
    """An offer, or a list of who may make offers, that is not taken; one sentence and one of the reasons."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
