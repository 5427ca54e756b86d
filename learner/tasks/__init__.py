"""Simulated tasks of others, as gymnasium environments whose action is a chunk; importing this package registers them.

`gymnasium.make("poco.learner.tasks:poco/cube-single-task2-v0")` needs the package `ogbench`, which is imported when it is made.
"""

from __future__ import annotations

from gymnasium.envs import registration

from .ogbench_scenes import SCENES, TASKS


def register() -> None:
    """Make the tasks known to gymnasium; calling it again changes nothing."""
    for scene in SCENES:
        for task in TASKS:
            name = f"poco/{scene}-task{task}-v0"
            if name not in registration.registry:
                registration.register(
                    name,
                    entry_point="poco.learner.tasks.ogbench_environment:OGBenchEnvironment",
                    kwargs={"scene": scene, "task": task},
                )


register()
