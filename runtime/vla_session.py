"""A vision-language-action policy on the robot computer: what is seen and told once a chunk, then the chunk out of noise.

The prefix graph turns images, prompt and, for some policies, the state into keys and values; the step graph, or the chunk graph
that holds all its steps, moves noise towards actions with them. They lie in memories of the backend that the one writes and the
other reads. A swap is another binding of the moving graph; the prefix, its tensors and so its version stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from poco import vla_numbers
from poco.artifact import Artifact, Tensors
from poco.errors import ArtifactError
from poco.images import fitted, padding_of, resize_with_pad
from poco.refusal import Reason, Refused
from poco.runtime.backends.backend import Array, Backend, Binding
from poco.runtime.backends.onnx_runtime import OnnxRuntimeCpu
from poco.runtime.chunk_session import Floats, Pixels
from poco.runtime.prompt import Prompts
from poco.runtime.session import WARM_UP_RUNS, check_names, constants_of
from poco.runtime.vla_graphs import NOISE, OUT_OF, STATE, golden_shapes, graphs_of
from poco.vla import CHUNK, IMAGE_MASK, PIXELS, SAMPLE, TIME, TOKEN_MASK, TOKENS, VlaCamera

WARM_UP_S = 2.0
MISSING = np.zeros((0, 0, 3), np.uint8)
"""Stands for the frame of a camera that is not there: its image is masked off."""


class VlaSession:
    """Runs the policy of an artifact that names `vla`, told `task`; policy process and gate, from one thread."""

    def __init__(self, artifact: Artifact, task: str = "", backend: Backend | None = None) -> None:
        """Open the graphs under `backend` (None: the CPU), bind all tensors and reproduce the golden vectors.

        Without a task it does no more than that. Raises ArtifactError.
        """
        assert artifact.manifest.vla is not None
        self._artifact, self._vla, self._task = artifact, artifact.manifest.vla, task
        self._backend = backend or OnnxRuntimeCpu()
        self._prompts = Prompts(artifact, self._vla)
        prefix, mover = graphs_of(artifact, self._vla)
        self._mover = mover
        self._in_one, self._prefix_takes_state = mover.name == CHUNK, any(i.source == STATE for i in prefix.inputs)
        self._noise_shape = self._vla.chunk_length, self._vla.width
        self._memories = {
            item.source: self._backend.memory(item.shape, item.dtype)
            for graph in (prefix, mover)
            for item in graph.inputs
            if item.tensor is None and not item.source.startswith(OUT_OF)
        }
        self._memories |= {
            f"{OUT_OF}{item.name}": self._backend.memory(item.shape, item.dtype) for item in prefix.outputs
        }
        result = mover.outputs[0]
        self._result = self._backend.memory(result.shape, result.dtype)
        self._frozen = {item.tensor: artifact.tensors[item.tensor] for item in prefix.inputs if item.tensor is not None}
        where, graphs = str(artifact.path), artifact.graphs
        inputs = {item.name: self._memories[item.source] for item in prefix.inputs if item.tensor is None}
        outputs = {item.name: self._memories[f"{OUT_OF}{item.name}"] for item in prefix.outputs}
        constants = constants_of(self._backend, prefix, artifact.tensors)
        self._prefix = self._backend.open(where, prefix, graphs[prefix.name]).bind(inputs | outputs | constants)
        self._opened = self._backend.open(where, mover, graphs[mover.name])
        self._binding = self.prepare(artifact.tensors)
        self._height, self._width = self._vla.cameras[0].height, self._vla.cameras[0].width
        self._pixels = np.zeros((len(self._vla.cameras), 3, self._height, self._width), np.float32)
        self._told: list[Array] | None = None
        self._shown: list[Pixels] | None = None
        self._behind = True
        self._sample: Floats = np.zeros(self._noise_shape, np.float32)
        self.stages_ns: dict[str, int] = {}
        self.check_golden()

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape [T, W] of the noise that `run` takes."""
        return self._noise_shape

    def prepare(self, tensors: Tensors) -> Binding:
        """Bind `tensors` (all of the artifact's, by name) to the moving graph, ready for `rebind`.

        On the CPU contiguous arrays are not copied, and must not be written to afterwards; to a device they are copied in one go.
        Raises ArtifactError if names, shapes or types are not those of the graphs, or if they would change the prefix, whose
        version stays for as long as the session does.
        """
        graphs = tuple(self._artifact.manifest.graphs)
        check_names(graphs, tensors)
        for key, ours in self._frozen.items():
            if tensors[key] is not ours and not np.array_equal(tensors[key], ours):
                raise ArtifactError(
                    f"tensor {key} of the prefix is another one than in the policy that runs: only the expert may change, begin a "
                    "new run with the new policy"
                )
        memories = {
            item.name: self._memories[item.source] for item in self._mover.inputs if item.tensor is None
        } | constants_of(self._backend, self._mover, tensors)
        return self._opened.bind(memories | {self._mover.outputs[0].name: self._result})

    def rebind(self, binding: Binding) -> Binding:
        """Let the next `run` use `binding`, made by `prepare` of this session; return the one in use until now."""
        previous, self._binding = self._binding, binding
        return previous

    def run(self, observation: Floats, noise: Floats, frames: Sequence[Pixels] = ()) -> Floats:
        """Return the actions [T, A] in action units for `observation` [O], `noise` [T, W] and the newest frames.

        `frames` [H, W, 3] are those of the cameras that the policy uses, in order. Values are passed through as they are. The
        prefix runs only if anything that enters it is new. Raises ValueError only for arrays of a wrong size.
        """
        return self._chunk(self._task, observation, noise, frames)

    def _chunk(self, task: str, observation: Floats, noise: Floats, frames: Sequence[Pixels]) -> Floats:
        began_ns = time.monotonic_ns()
        vla, specification = self._vla, self._artifact.specification
        state = vla_numbers.physical_state(specification, observation)
        self._enter(task, vla_numbers.normalise(vla.state, state), frames)
        entered_ns = time.monotonic_ns()
        if self._behind:
            self._prefix.run()
            self._behind = False
        seen_ns = time.monotonic_ns()
        self._sample = self._moved(noise)
        moved_ns = time.monotonic_ns()
        chunk = vla_numbers.actions(vla, specification, self._sample, state)
        self.stages_ns = {
            "preprocess": entered_ns - began_ns,
            "prefix": seen_ns - entered_ns,
            "steps": moved_ns - seen_ns,
            "postprocess": time.monotonic_ns() - moved_ns,
        }
        return chunk

    def _enter(self, task: str, normalised: Floats, frames: Sequence[Pixels]) -> None:
        """Write all that graphs take where it is not there already; if any of it enters the prefix, that is behind until it ran."""
        if len(frames) != len(self._vla.cameras_used):
            raise ValueError(
                f"{len(frames)} frames are given, the policy sees through {len(self._vla.cameras_used)} cameras"
            )
        padded = vla_numbers.padded(normalised, self._vla.width)
        if STATE in self._memories:
            self._memories[STATE].write(padded)
        tokens, mask = self._prompts.tokens(task, normalised)
        entering: list[Array] = [tokens, mask, *([padded] if self._prefix_takes_state else [])]
        if not _same(entering, self._told):
            self._behind, self._told = True, None
            self._memories[TOKENS].write(tokens)
            self._memories[TOKEN_MASK].write(mask)
            self._told = [values.copy() for values in entering]
        if not _same(frames, self._shown):
            self._behind, self._shown = True, None
            self._see(frames)
            self._shown = [frame.copy() for frame in frames]

    @property
    def taken_in(self) -> Pixels | None:
        """The images [cameras, 3, side, side] of the newest chunk, black where one was not there; None if they are no squares."""
        return self._levels(self._pixels)

    def images_of(self, frames: Sequence[Pixels]) -> Pixels | None:
        """Return the images that a chunk would be made of where cameras show `frames`; nothing of the next chunk changes."""
        pixels = np.zeros_like(self._pixels)
        self._fit(frames, pixels)
        return self._levels(pixels)

    def _levels(self, pixels: Floats) -> Pixels | None:
        if self._height != self._width:
            return None
        used = [index for index, camera in enumerate(self._vla.cameras) if camera.camera is not None]
        images: Pixels = np.rint((pixels[used] + 1.0) * 127.5).astype(np.uint8)
        return images

    def _see(self, frames: Sequence[Pixels]) -> None:
        mask = self._fit(frames, self._pixels)
        self._memories[PIXELS].write(self._pixels)
        self._memories[IMAGE_MASK].write(mask)

    def _fit(self, frames: Sequence[Pixels], pixels: Floats) -> Array:
        """Write the images of `frames` to `pixels`, black where there is none, and return which are there."""
        shown = iter(frames)
        mask = np.zeros(len(self._vla.cameras), np.bool_)
        for index, camera in enumerate(self._vla.cameras):
            frame = MISSING if camera.camera is None else next(shown)
            mask[index] = frame.size > 0
            if mask[index]:
                fit(np.ascontiguousarray(frame), camera, pixels[index])
            else:
                pixels[index] = -1.0
        return mask

    def _moved(self, noise: Floats) -> Floats:
        """Return what `noise` [T, W] becomes under the moving graph."""
        if self._in_one:
            self._memories[NOISE].write(noise)
            self._binding.run()
            return self._read()
        schedule = self._vla.schedule
        sample, size = noise.reshape(self._noise_shape).astype(np.float32), np.float32(vla_numbers.step_size(schedule))
        for moment in vla_numbers.times(schedule):
            self._memories[SAMPLE].write(sample)
            self._memories[TIME].write(np.array([moment], np.float32))
            self._binding.run()
            sample = sample + size * self._read()
        return sample

    def _read(self) -> Floats:
        return self._result.read().reshape(self._noise_shape).astype(np.float32, copy=False)

    def warm_up(self) -> None:
        """Run both graphs until memory is planned, for WARM_UP_S at most but twice at least; before the arm is armed."""
        observation = np.zeros(self._artifact.specification.observation_size, np.float32)
        noise = np.zeros(self._noise_shape, np.float32)
        began_s = time.monotonic()
        for count in range(WARM_UP_RUNS):
            frames = [np.full((self._height, self._width, 3), count, np.uint8)] * len(self._vla.cameras_used)
            self.run(observation, noise, frames)
            if count and time.monotonic() - began_s > WARM_UP_S:
                return

    def check_golden(self) -> None:
        """Make the golden chunks from images, tasks, observations and noise; raises Refused if this computer gives others."""
        path, golden, tasks = self._artifact.path, self._artifact.golden, self._vla.golden_tasks
        tolerance, cases = self._artifact.manifest.golden_tolerance, len(tasks)
        shapes = golden_shapes(self._artifact, self._vla)
        if not cases or any(name not in golden or golden[name].shape != (cases, *shapes[name]) for name in shapes):
            wanted = ", ".join(f"{name} {[cases, *shape]}" for name, shape in shapes.items())
            raise Refused(Reason.GOLDEN, f"artifact {path} lacks golden vectors {wanted}: export it again")
        errors = []
        for case, task in enumerate(tasks):
            there = golden["image_mask"][case]
            images = np.ascontiguousarray(golden["images"][case].transpose(0, 2, 3, 1).astype(np.uint8))
            frames = [
                images[index] if there[index] else MISSING
                for index, camera in enumerate(self._vla.cameras)
                if camera.camera is not None
            ]
            observation, noise = (golden[name][case].astype(np.float32) for name in ("observation", "noise"))
            chunk = self._chunk(task, observation, noise, frames)
            assert self._told is not None
            if not _same([golden["tokens"][case][None], golden["token_mask"][case][None]], self._told[:2]):
                raise Refused(
                    Reason.GOLDEN,
                    f"artifact {path} makes other tokens of {task!r} than when it was exported: export it again, or install the "
                    "version of tokenizers that constraints.txt names",
                )
            for actual, name in ((chunk, "chunk"), (self._sample, "sample")):
                errors.append(np.max(np.abs(actual - golden[name][case].astype(np.float32))))
        error = float(np.max(errors))
        if not error <= tolerance:
            raise Refused(
                Reason.GOLDEN,
                f"artifact {path} gives chunks that differ from its golden ones by {error:.2e}, the tolerance is {tolerance:.0e}: "
                "export it again",
            )


def _same(values: Sequence[Array], others: Sequence[Array] | None) -> bool:
    return (
        others is not None
        and len(values) == len(others)
        and all(np.array_equal(value, other) for value, other in zip(values, others, strict=True))
    )


def fit(frame: Pixels, camera: VlaCamera, out: Floats) -> None:
    """Write `frame` [H, W, 3] to `out` [3, h, w] as the image of `camera`."""
    size, image = (frame.shape[0], frame.shape[1]), (camera.height, camera.width)
    rows, columns = fitted(size, image)
    above, left = padding_of(size, image, camera.padding == "centred")
    resize_with_pad(frame, rows, columns, above, left, out)
