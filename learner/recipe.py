"""The training recipe: one whole YAML file that says what `poco-learner train` and `poco-learner serve` do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from poco.errors import SettingsError
from poco.learner.agent_settings import AgentSettings
from poco.learner.publications import PublishSettings
from poco.learner.success_guard import GuardSettings
from poco.settings import convert_strictly

Count = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One whole training recipe.

    The run ends with the episode that is number `episodes` or that reaches `steps` control steps, 0 for no such limit.
    updates_per_step is the update-to-data ratio in control steps; warm_up says what updates do to the actor in the first
    warm_up_steps control steps besides training the critic; warm_up_updates_per_step is the ratio then, none (paper) for the same
    one. After it the robot acts with the best by the critic of collecting_samples chunks, 1 (paper) for a plain sample; the
    finished policy acts with one. What acts, is measured, kept and published is an average of the actor that comes nearer to it by
    average_rate in every update; 0 (paper) for the actor itself, from which candidates always are. It is evaluated every
    evaluation_interval episodes and every evaluation_interval_steps control steps; 0 for neither. bf16_sampling: candidates are
    drawn in bfloat16 "on", "off" or, "auto", where a measurement at the start of the run says it is faster.

    windows: updates see windows from every step on ("all", paper) or from those at which a chunk was chosen ("acted"). In a window
    that begins in between, the later actions were chosen knowing what the earlier ones had led to; a critic that learns from it
    takes the consequence for the cause.

    A learner that serves robots ends when it is told to, and does not act: it leaves episodes, steps, collecting_samples, the
    evaluations and actor_hidden_sizes aside. For it task and environment only say under which name its artifact was evaluated,
    and publish is for it alone.
    """

    version: Literal[1]
    task: str
    environment: dict[str, bool | int | float | str]
    episodes: Count
    steps: NotNegative = 0
    batch: Count
    updates_per_step: Annotated[float, msgspec.Meta(ge=0.0)]
    warm_up: Literal["frozen", "cloning"]
    warm_up_steps: NotNegative
    warm_up_updates_per_step: Annotated[float, msgspec.Meta(ge=0.0)] | None = None
    collecting_samples: Count = 1
    average_rate: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    windows: Literal["all", "acted"] = "all"
    evaluation_interval: NotNegative
    evaluation_interval_steps: NotNegative = 0
    evaluation_episodes: Count
    checkpoint_interval: Count
    replay_bytes: Count
    actor_hidden_sizes: tuple[int, ...]
    agent: AgentSettings
    guard: GuardSettings
    publish: PublishSettings = PublishSettings()
    bf16_sampling: Literal["auto", "on", "off"] = "auto"

    def updates_due(self, steps: int) -> int:
        """Return how many updates belong to the first `steps` control steps."""
        warm_up = min(steps, self.warm_up_steps)
        ratio = self.updates_per_step if self.warm_up_updates_per_step is None else self.warm_up_updates_per_step
        return int(ratio * warm_up + self.updates_per_step * (steps - warm_up))

    @property
    def best_of(self) -> int:
        """How many samples the method acts with: Q-chunking executes the best of its candidates, all others take one."""
        return self.agent.candidates if self.agent.method == "qc" else 1

    @property
    def collect_best_of(self) -> int:
        """How many samples the robot acts with after the warm-up."""
        return max(self.best_of, self.collecting_samples)


def read_training_settings(path: Path) -> TrainingSettings:
    """Read the YAML file at `path`; raises SettingsError with file, key and nearest known key or limit."""
    if not path.is_file():
        raise SettingsError(f"settings file {path} does not exist: see configs/cpu for whole examples")
    try:
        tree = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} is not YAML ({' '.join(str(error).split())})") from error
    return convert_strictly(tree, TrainingSettings, str(path))


def endless(settings: TrainingSettings) -> TrainingSettings:
    """Return `settings` without its end and its publications, the only parts of a recipe that a run which goes on may change."""
    return msgspec.structs.replace(settings, episodes=1, steps=0, publish=PublishSettings())
