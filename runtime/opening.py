"""The session of an artifact, whatever kind of policy it holds."""

from __future__ import annotations

from poco.artifact import Artifact
from poco.runtime.backends.backend import Backend
from poco.runtime.chunk_session import ChunkSession
from poco.runtime.session import Session
from poco.runtime.vla_session import VlaSession


def open_session(artifact: Artifact, task: str = "", backend: Backend | None = None) -> ChunkSession:
    """Return a session of `artifact` under `backend` (None: the CPU) that has reproduced its golden vectors; raises ArtifactError.

    A policy that is told its task in words is told `task`; without one it can only be examined. Policy process and gate.
    """
    return Session(artifact, backend) if artifact.manifest.vla is None else VlaSession(artifact, task, backend)
