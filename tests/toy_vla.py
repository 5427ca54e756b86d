"""A vision-language-action policy of a few hundred weights whose graphs are made by hand, and the same policy in numpy.

It has everything the real ones have: images and prompt become keys and values, an expert whose weights are graph inputs moves noise
towards actions with them. Every input matters, so a session that forgets one of them gives other actions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from poco import vla_numbers
from poco.artifact import (
    FORMAT,
    VERSION,
    Artifact,
    Graph,
    GraphInput,
    GraphOutput,
    Manifest,
    TensorFile,
    graph_hash,
    read_artifact,
    sha256,
    write_artifact,
)
from poco.images import fitted, padding_of
from poco.specification import Specification, read_specification
from poco.vla import Normalisation, PolicyType, Prompt, Schedule, VisionPositions, Vla, VlaCamera
from programs import ROOT

PEG_IN_HOLE = ROOT / "configs" / "peg_in_hole_specification.yaml"
WORDS = ("pick", "up", "the", "peg", "put", "it", "into", "hole", "and", "let", "go", "Task:", "State:", "Action:")
SPECIAL = ("<pad>", "<bos>", "<unk>")
HIGH, WIDE, LENGTH, WIDTH, SIZE = 20, 24, 48, 24, 6
TASKS = ("pick up the peg", "put the peg into the hole", "go")
CAMERAS = ("near", "wrist")
Array = npt.NDArray[Any]
Weights = dict[str, Array]


@dataclass
class Toy:
    """One such policy: its kind, `steps` of its schedule, whether they are in one graph, cameras (None: never there)."""

    kind: PolicyType = "smolvla"
    steps: int = 4
    in_one: bool = False
    cameras: tuple[str | None, ...] = ("near", None, "wrist")
    specification: Specification = field(default_factory=lambda: read_specification(PEG_IN_HOLE))
    seed: int = 0
    frozen_inputs: bool = False
    """Whether one weight of the prefix is an input too, as in a file that grows too large for ONNX."""

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed)
        self.length = self.specification.chunk_steps + 2
        weights = {
            "table": (len(WORDS) + 300, SIZE),
            "see": (3, SIZE),
            "place": (3, 1, HIGH, WIDE),
            "feel": (WIDTH, SIZE),
            "expert.in": (WIDTH, SIZE),
            "expert.context": (SIZE, SIZE),
            "expert.time": (1, SIZE),
            "expert.feel": (WIDTH, SIZE),
            "expert.out": (SIZE, WIDTH),
        }
        self.weights = {key: draw.normal(0.0, 0.6, shape).astype(np.float32) for key, shape in weights.items()}
        self.weights["place"] *= 15.0  # of many pixels the mean is taken
        observed = self.specification.observation_size
        mean, deviation = draw.uniform(-0.1, 0.1, observed), draw.uniform(0.05, 0.2, observed)
        self.vla = Vla(
            type=self.kind,
            frozen_sha256=sha256(self.weights["see"].tobytes()),
            prompt=Prompt(
                template="task_and_state" if self.kind == "pi05" else "task",
                length=LENGTH,
                pad_id=0,
                tokenizer="tokenizer.json",
                tokenizer_sha256=sha256(tokenizer()),
            ),
            cameras=tuple(
                VlaCamera(
                    camera=name,
                    key=f"observation.images.{index}",
                    height=HIGH,
                    width=WIDE,
                    padding="left_top" if self.kind == "smolvla" else "centred",
                )
                for index, name in enumerate(self.cameras)
            ),
            state=Normalisation(
                mode="mean_std",
                size=observed,
                statistics={"mean": tuple(mean.tolist()), "std": tuple(deviation.tolist())},
            ),
            action=Normalisation(
                mode="mean_std",
                size=4,
                statistics={"mean": (0.0, 0.001, 0.0, 0.0), "std": (0.0006, 0.0006, 0.0006, 0.004)},
            ),
            width=WIDTH,
            chunk_length=self.length,
            first_action=1,
            schedule=Schedule(steps=self.steps, start=1.0, end=0.0),
            versions={"made by": "tests"},
            vision_positions=VisionPositions(asked="auto", found="none"),
            precision="fp32",
            golden_tasks=TASKS,
        )

    @property
    def state_in_prefix(self) -> bool:
        """Whether the state is one of the prefix's tokens."""
        return self.kind == "smolvla"

    @property
    def trained(self) -> Weights:
        """The expert's weights, which a swap replaces."""
        return {key: value for key, value in self.weights.items() if key in self._expert_keys()}

    def _expert_keys(self) -> set[str]:
        keys = {"expert.in", "expert.context", "expert.time", "expert.out"}
        return keys | ({"expert.feel"} if self.kind == "pi0" else set())

    def actions(
        self,
        task: str,
        observation: Array,
        noise: Array,
        frames: Sequence[Array],
        trained: Weights | None = None,
    ) -> Array:
        """What the policy does, in numpy: images by float interpolation, no graph, no session; an empty frame is masked off."""
        sample, state = self.sample(task, observation, noise, frames, trained)
        return vla_numbers.actions(self.vla, self.specification, sample, state)

    def sample(
        self, task: str, observation: Array, noise: Array, frames: Sequence[Array], trained: Weights | None = None
    ) -> tuple[Array, Array]:
        """What the noise [T, W] becomes, and the physical state."""
        weights: Weights = {**self.weights, **(trained or {})}
        state = vla_numbers.physical_state(self.specification, observation)
        normal = vla_numbers.normalise(self.vla.state, state)
        padded = vla_numbers.padded(normal, WIDTH)
        ids = tokens_of(vla_numbers.prompt_text(self.vla, task, normal))
        tokens, mask = np.zeros(LENGTH, np.int64), np.zeros(LENGTH, bool)
        tokens[: len(ids)], mask[: len(ids)] = ids, True
        shown = iter(frames)
        seen = [np.zeros((0, 0, 3), np.uint8) if name is None else next(shown) for name in self.cameras]
        images = [image_of(frame if frame.size else None, self.vla.cameras[0]) for frame in seen]
        there = np.array([frame.size > 0 for frame in seen])
        parts = [weights["table"][tokens] * mask[:, None]]
        pooled = (np.stack(images) * weights["place"][: len(images)]).mean(axis=(2, 3))
        parts.append((pooled * there[:, None]) @ weights["see"])
        pad = [mask, there]
        if self.state_in_prefix:
            parts.append(padded @ weights["feel"])
            pad.append(np.ones(1, bool))
        keys = np.tanh(np.concatenate(parts))
        context = ((keys + 0.5 * keys**2) * np.concatenate(pad)[:, None]).sum(axis=0)
        sample = noise.astype(np.float64)
        for step in range(self.steps):
            moment = 1.0 - step / self.steps
            inner = (
                sample @ weights["expert.in"] + context @ weights["expert.context"] + moment * weights["expert.time"]
            )
            if self.kind == "pi0":
                inner = inner + padded @ weights["expert.feel"]
            sample = sample - np.tanh(inner) @ weights["expert.out"] / self.steps
        return sample.astype(np.float32), state

    def write(self, folder: Path, generation: int = 1, trained: Weights | None = None) -> Artifact:
        """Write it as an artifact with golden vectors from numpy; `trained` takes the place of its expert."""
        expert = self.trained if trained is None else trained
        graphs = {"prefix": self._prefix(), "step": self._mover(in_one=False)}
        if self.in_one:
            graphs["chunk"] = self._mover(in_one=True)
        payloads = {name: model.SerializeToString() for name, (model, _, _) in graphs.items()}
        draw = np.random.default_rng(7)
        cases, cameras = len(TASKS), len(self.cameras)
        golden = {
            "images": draw.integers(0, 256, (cases, cameras, 3, HIGH, WIDE), np.uint8),
            "image_mask": np.tile([name is not None for name in self.cameras], (cases, 1)),
            "observation": draw.uniform(-1, 1, (cases, self.specification.observation_size)).astype(np.float32),
            "noise": draw.standard_normal((cases, self.length, WIDTH), dtype=np.float32),
            "tokens": np.zeros((cases, LENGTH), np.int64),
            "token_mask": np.zeros((cases, LENGTH), bool),
        }
        golden["image_mask"][-1, 0] = False  # a camera that was masked off
        for case, task in enumerate(TASKS):
            state = vla_numbers.physical_state(self.specification, golden["observation"][case])
            ids = tokens_of(vla_numbers.prompt_text(self.vla, task, vla_numbers.normalise(self.vla.state, state)))
            golden["tokens"][case, : len(ids)], golden["token_mask"][case, : len(ids)] = ids, True
        golden |= self.golden_chunks(golden, expert)
        files = {f"{name}.onnx": payload for name, payload in payloads.items()}
        files |= {
            "golden.safetensors": save(golden),
            "trained.safetensors": save(expert),
            "tokenizer.json": tokenizer(),
        }
        roles = {"golden": "golden", "trained": "trained"}
        if self.frozen_inputs:
            files["frozen.safetensors"], roles["frozen"] = save({"see": self.weights["see"]}), "frozen"
        manifest = Manifest(
            format=FORMAT,
            version=VERSION,
            policy="prefix_step",
            robot_model=self.specification.robot,
            specification=self.specification,
            specification_hash=self.specification.digest(),
            graphs=tuple(
                Graph(name=name, file=f"{name}.onnx", sha256=sha256(payloads[name]), inputs=inputs, outputs=outputs)
                for name, (_, inputs, outputs) in graphs.items()
            ),
            graph_hash=graph_hash(payloads),
            tensors=tuple(
                TensorFile(file=f"{name}.safetensors", sha256=sha256(files[f"{name}.safetensors"]), role=role)  # type: ignore[arg-type]
                for name, role in roles.items()
            ),
            noise_shape=(self.length, WIDTH),
            swappable=True,
            generation=generation,
            parent=None,
            expires_unix_s=None,
            golden_tolerance=1e-4,
            vla=self.vla,
        )
        write_artifact(folder, manifest, files)
        return read_artifact(folder)

    def golden_chunks(self, golden: Mapping[str, Array], trained: Weights) -> dict[str, Array]:
        """What `trained` makes of golden inputs: finished samples and chunks."""
        samples, chunks = [], []
        for case, task in enumerate(TASKS):
            frames = [
                golden["images"][case, index].transpose(1, 2, 0)
                if golden["image_mask"][case, index]
                else np.zeros((0, 0, 3))
                for index, name in enumerate(self.cameras)
                if name is not None
            ]
            sample, state = self.sample(task, golden["observation"][case], golden["noise"][case], frames, trained)
            samples.append(sample)
            chunks.append(vla_numbers.actions(self.vla, self.specification, sample, state))
        return {"sample": np.stack(samples), "chunk": np.stack(chunks)}

    @property
    def _seen_shape(self) -> tuple[int, ...]:
        return (1, 1, 2, LENGTH + len(self.cameras) + self.state_in_prefix, SIZE // 2)

    def _prefix(self) -> tuple[onnx.ModelProto, tuple[GraphInput, ...], tuple[GraphOutput, ...]]:
        cameras, shape = len(self.cameras), self._seen_shape
        inputs = [
            GraphInput(name="images", source="pixels", shape=(cameras, 3, HIGH, WIDE)),
            GraphInput(name="there", source="image_mask", shape=(cameras,), dtype="bool"),
            GraphInput(name="words", source="tokens", shape=(1, LENGTH), dtype="int64"),
            GraphInput(name="said", source="token_mask", shape=(1, LENGTH), dtype="bool"),
        ]
        made = _Made({key: self.weights[key] for key in ("table", "see", "feel")})
        if self.frozen_inputs:
            del made.constants["see"]
            inputs.append(GraphInput(name="see", source="tensor:see", shape=(3, SIZE)))
        said = made("Cast", "said", to=TensorProto.FLOAT)
        words = made("Mul", made("Gather", "table", "words"), made("Unsqueeze", said, made.numbers(2)))
        placed = made("Mul", "images", made.constant(self.weights["place"][:cameras]))
        pooled = made("ReduceMean", placed, made.numbers(2, 3), keepdims=0)
        there = made("Unsqueeze", made("Cast", "there", to=TensorProto.FLOAT), made.numbers(1))
        shown = made("Unsqueeze", made("MatMul", made("Mul", pooled, there), "see"), made.numbers(0))
        parts, pad = [words, shown], ["said", made("Unsqueeze", "there", made.numbers(0))]
        if self.state_in_prefix:
            inputs.append(GraphInput(name="state", source="state", shape=(1, WIDTH)))
            parts.append(made("Unsqueeze", made("MatMul", "state", "feel"), made.numbers(0)))
            pad.append(made.constant(np.ones((1, 1), np.bool_)))
        keys = made("Tanh", made("Concat", *parts, axis=1))
        heads = made("Transpose", made("Reshape", keys, made.numbers(1, shape[3], 2, SIZE // 2)), perm=[0, 2, 1, 3])
        made("Unsqueeze", heads, made.numbers(0), name="k")
        made("Mul", made("Mul", "k", "k"), made.constant(np.float32(0.5)), name="v")
        made("Concat", *pad, axis=1, name="pad")
        outputs = (
            GraphOutput(name="k", shape=shape),
            GraphOutput(name="v", shape=shape),
            GraphOutput(name="pad", shape=(1, shape[3]), dtype="bool"),
        )
        return made.model(inputs, outputs), tuple(inputs), outputs

    def _mover(self, in_one: bool) -> tuple[onnx.ModelProto, tuple[GraphInput, ...], tuple[GraphOutput, ...]]:
        shape, chunk = self._seen_shape, (1, self.length, WIDTH)
        inputs = [
            GraphInput(name="x", source="noise" if in_one else "sample", shape=chunk),
            GraphInput(name="k", source="graph:k", shape=shape),
            GraphInput(name="v", source="graph:v", shape=shape),
            GraphInput(name="pad", source="graph:pad", shape=(1, shape[3]), dtype="bool"),
        ]
        inputs += [GraphInput(name="t", source="time", shape=(1,))] if not in_one else []
        inputs += [GraphInput(name="state", source="state", shape=(1, WIDTH))] if self.kind == "pi0" else []
        inputs += [
            GraphInput(name=key, source=f"tensor:{key}", shape=value.shape)
            for key, value in sorted(self.trained.items())
        ]
        made = _Made({})
        counted = made("Reshape", made("Cast", "pad", to=TensorProto.FLOAT), made.numbers(1, 1, 1, shape[3], 1))
        seen = made("ReduceSum", made("Mul", made("Add", "k", "v"), counted), made.numbers(3), keepdims=0)
        context = made("MatMul", made("Reshape", seen, made.numbers(1, SIZE)), "expert.context")
        if self.kind == "pi0":
            context = made("Add", context, made("MatMul", "state", "expert.feel"))

        def velocity(sample: str, moment: str) -> str:
            inner = made("Add", made("MatMul", sample, "expert.in"), context)
            return made("MatMul", made("Tanh", made("Add", inner, made("Mul", moment, "expert.time"))), "expert.out")

        if in_one:
            sample, size = "x", made.constant(np.float32(1.0 / self.steps))
            for step in range(self.steps):
                moment = made.constant(np.array([1.0 - step / self.steps], np.float32))
                sample = made("Sub", sample, made("Mul", velocity(sample, moment), size))
            made("Identity", sample, name="out")
        else:
            made("Identity", velocity("x", "t"), name="out")
        outputs = (GraphOutput(name="out", shape=chunk),)
        return made.model(inputs, outputs), tuple(inputs), outputs


class _Made:
    """A graph as it is written down, node by node."""

    def __init__(self, constants: dict[str, Array]) -> None:
        self.constants, self._nodes = dict(constants), list[onnx.NodeProto]()

    def __call__(self, operator: str, *inputs: str, name: str = "", **attributes: object) -> str:
        output = name or f"made_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Array | np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def model(self, inputs: Sequence[GraphInput], outputs: Sequence[GraphOutput]) -> onnx.ModelProto:
        kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}
        ends = [
            [helper.make_tensor_value_info(item.name, kinds[item.dtype], item.shape) for item in end]
            for end in (inputs, outputs)
        ]
        constants = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self._nodes, "toy", *ends, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model


def image_of(frame: Array | None, camera: VlaCamera) -> Array:
    """The image [3, h, w] of `frame` by plain interpolation in double precision."""
    image = np.zeros((3, camera.height, camera.width))
    if frame is None:
        return image * 2.0 - 1.0
    size = frame.shape[0], frame.shape[1]
    rows, columns = fitted(size, (camera.height, camera.width))
    above, left = padding_of(size, (camera.height, camera.width), camera.padding == "centred")

    def between(count: int, made: int) -> tuple[Array, Array, Array]:
        at = np.clip((np.arange(made) + 0.5) * count / made - 0.5, 0.0, None)
        first = np.minimum(at.astype(int), count - 1)
        return first, np.minimum(first + 1, count - 1), at - first

    (top, bottom, low), (west, east, right) = between(size[0], rows), between(size[1], columns)
    lines = frame[top] * (1.0 - low)[:, None, None] + frame[bottom] * low[:, None, None]
    resized = lines[:, west] * (1.0 - right)[None, :, None] + lines[:, east] * right[None, :, None]
    image[:, above : above + rows, left : left + columns] = resized.transpose(2, 0, 1) / 255.0
    return image * 2.0 - 1.0


def tokenizer() -> bytes:
    """A tokenizer of words that begins every prompt with a mark, as the real ones do; numbers of the state are words."""
    numbers = tuple(str(number) for number in range(-1, 256))
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS, *numbers, ",", ";"))}
    rules = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": word,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, word in enumerate(SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [1], "tokens": ["<bos>"]}},
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }
    return json.dumps(rules).encode()


def tokens_of(text: str) -> list[int]:
    """What that tokenizer makes of `text`, without it."""
    vocabulary = json.loads(tokenizer())["model"]["vocab"]
    return [1, *(vocabulary.get(word, 2) for word in text.split())]


def altered(artifact: Artifact, **changes: object) -> Artifact:
    """The artifact in memory with entries of its rules replaced."""
    assert artifact.manifest.vla is not None
    vla = msgspec.structs.replace(artifact.manifest.vla, **changes)
    manifest = msgspec.structs.replace(artifact.manifest, vla=vla)
    return Artifact(artifact.path, manifest, artifact.graphs, artifact.tensors, artifact.golden, artifact.tokenizer)
