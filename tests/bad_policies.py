"""Policies that went wrong in training, export or configuration: sound artifacts, honestly signed, with their own golden chunks.

Each kind turns the tensors of the shipped flow policy (`learner/networks.py`) into those of a policy that misbehaves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from poco.specification import Specification
from poco.succession import Floats

Tensors = dict[str, Floats]
Random = np.random.Generator
Spoil = Callable[[Tensors, Random, Specification], None]

ACTIONS = 4


def columns(specification: Specification, name: str) -> list[int]:
    """The columns of the observation that the field `name` fills."""
    first = 0
    for field in specification.observation:
        if field.name == name:
            return list(range(first, first + len(field.low)))
        first += len(field.low)
    raise KeyError(name)


def random_output(tensors: Tensors, random: Random, specification: Specification) -> None:
    """The flow stands still: what comes out is the noise that went in."""
    tensors["velocity_layer.weight"][:] = 0.0
    tensors["velocity_layer.bias"][:] = 0.0


def frozen(tensors: Tensors, random: Random, specification: Specification) -> None:
    """Sees nothing: the same chunk for every observation."""
    tensors["observation_layer.weight"][:] = 0.0


def blind_to_the_hole(tensors: Tensors, random: Random, specification: Specification) -> None:
    """Does not see where the hole is."""
    for name in ("target_offset_coarse", "target_offset_fine"):
        tensors["observation_layer.weight"][:, columns(specification, name)] = 0.0


def sign_flip(tensors: Tensors, random: Random, specification: Specification) -> None:
    """Every action the other way round."""
    tensors["chunk_layer.weight"][:, :-1] *= -1.0
    tensors["velocity_layer.weight"] *= -1.0
    tensors["velocity_layer.bias"] *= -1.0


def sign_flip_of_one(tensors: Tensors, random: Random, specification: Specification) -> None:
    """One axis the other way round."""
    rows = np.arange(int(random.integers(2)), len(tensors["velocity_layer.bias"]), ACTIONS)
    tensors["chunk_layer.weight"][:, rows] *= -1.0
    tensors["velocity_layer.weight"][rows] *= -1.0
    tensors["velocity_layer.bias"][rows] *= -1.0


def swapped_axes(tensors: Tensors, random: Random, specification: Specification) -> None:
    """x and y exchanged."""
    rows = np.arange(len(tensors["velocity_layer.bias"])).reshape(-1, ACTIONS)[:, [1, 0, 2, 3]].ravel()
    tensors["chunk_layer.weight"][:, :-1] = tensors["chunk_layer.weight"][:, rows]
    tensors["velocity_layer.weight"][:] = tensors["velocity_layer.weight"][rows]
    tensors["velocity_layer.bias"][:] = tensors["velocity_layer.bias"][rows]


def reversed_time(tensors: Tensors, random: Random, specification: Specification) -> None:
    """The last action of a chunk first."""
    rows = np.arange(len(tensors["velocity_layer.bias"])).reshape(-1, ACTIONS)[::-1].ravel()
    tensors["chunk_layer.weight"][:, :-1] = tensors["chunk_layer.weight"][:, rows]
    tensors["velocity_layer.weight"][:] = tensors["velocity_layer.weight"][rows]
    tensors["velocity_layer.bias"][:] = tensors["velocity_layer.bias"][rows]


def permuted_observation(tensors: Tensors, random: Random, specification: Specification) -> None:
    """Fields of the observation in another order."""
    order = random.permutation(len(tensors["mean"]))
    tensors["observation_layer.weight"][:] = tensors["observation_layer.weight"][:, order]


def wrong_mean(tensors: Tensors, random: Random, specification: Specification) -> None:
    """The normaliser of other data: everything looks moved."""
    tensors["mean"] += random.choice([-1.0, 1.0], len(tensors["mean"])).astype(np.float32) * tensors["std"]


def wrong_scale(tensors: Tensors, random: Random, specification: Specification) -> None:
    """The normaliser of other units: everything looks three times as large."""
    tensors["std"] /= 3.0


def jumpy(tensors: Tensors, random: Random, specification: Specification) -> None:
    """Velocities of the flow five times too large: actions jump between their bounds."""
    tensors["velocity_layer.weight"] *= 5.0
    tensors["velocity_layer.bias"] *= 5.0


def timid(tensors: Tensors, random: Random, specification: Specification) -> None:
    """Half as much flow: actions too small, and noisy."""
    tensors["velocity_layer.weight"] *= 0.5
    tensors["velocity_layer.bias"] *= 0.5


def drift(tensors: Tensors, random: Random, specification: Specification) -> None:
    """Always pulls to one side."""
    tensors["velocity_layer.bias"][int(random.integers(2)) :: ACTIONS] += random.choice([-0.6, 0.6])


def lift(tensors: Tensors, random: Random, specification: Specification) -> None:
    """Never comes down."""
    tensors["velocity_layer.bias"][2::ACTIONS] += 1.5


def spin(tensors: Tensors, random: Random, specification: Specification) -> None:
    """Turns on and on."""
    tensors["velocity_layer.bias"][3::ACTIONS] += 1.0


def untrained(tensors: Tensors, random: Random, specification: Specification) -> None:
    """A network before its training."""
    for key, tensor in tensors.items():
        if key not in ("mean", "std"):
            bound = 1.0 / np.sqrt(tensor.shape[-1])
            tensor[:] = random.uniform(-bound, bound, tensor.shape)


def lost_layer(tensors: Tensors, random: Random, specification: Specification) -> None:
    """A layer of zeros."""
    tensors["hidden_layers.0.weight"][:] = 0.0


def noisy_weights(tensors: Tensors, random: Random, specification: Specification) -> None:
    """An update that went far: every weight off by half its size."""
    for key, tensor in tensors.items():
        if key not in ("mean", "std"):
            tensor += 0.5 * tensor * random.standard_normal(tensor.shape).astype(np.float32)


def exploded_weight(tensors: Tensors, random: Random, specification: Specification) -> None:
    """One weight a hundred thousand times too large."""
    weight = tensors["hidden_layers.1.weight"]
    weight[int(random.integers(weight.shape[0])), int(random.integers(weight.shape[1]))] = 1e5


def not_finite_at_rest(tensors: Tensors, random: Random, specification: Specification) -> None:
    """Units that sleep while the peg goes down, and at rest feed each other until infinity meets infinity."""
    falling, huge = columns(specification, "commanded_velocity")[2], 9e5
    for key in tensors.keys() - {"mean", "std", "velocity_layer.weight", "velocity_layer.bias"}:
        tensors[key][:2] = 0.0
    tensors["observation_layer.weight"][0, falling] = huge * tensors["std"][falling]
    tensors["observation_layer.bias"][:2] = (huge * (0.1 + tensors["mean"][falling]), -huge)
    tensors["chunk_layer.weight"][0, 0] = 1e3
    tensors["hidden_layers.0.weight"][:2, 0] = huge
    tensors["hidden_layers.1.weight"][0, :2] = (huge, -huge)
    tensors["hidden_layers.1.weight"][1, 0] = huge
    tensors["velocity_layer.weight"][0, 1] = huge


KINDS: dict[str, Spoil] = {
    kind.__name__: kind
    for kind in (
        random_output,
        frozen,
        blind_to_the_hole,
        sign_flip,
        sign_flip_of_one,
        swapped_axes,
        reversed_time,
        permuted_observation,
        wrong_mean,
        wrong_scale,
        jumpy,
        timid,
        drift,
        lift,
        spin,
        untrained,
        lost_layer,
        noisy_weights,
        exploded_weight,
        not_finite_at_rest,
    )
}
