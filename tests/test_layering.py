"""Keeps the import table of CONTRIBUTING.md true, and everything out that could run a stranger's bytes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("runtime", "learner", "export", "hw", "configs")


@dataclass(frozen=True)
class Layer:
    """One row of the table: the other layers and single modules a folder may import, third-party packages, never."""

    folder: Path
    layers: frozenset[str] = frozenset()
    third_party: frozenset[str] = frozenset()
    modules: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


FOR_ALL = frozenset({"numpy", "numba", "yaml", "tyro", "msgspec", "safetensors", "cryptography"})
VOCABULARY = frozenset({"vocabulary"})
LAYERS = {
    "vocabulary": Layer(
        ROOT / "src/poco",
        third_party=frozenset({"zmq", "tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "cuda"}),
    ),
    "hw.polymetis": Layer(ROOT / "hw/polymetis", VOCABULARY, frozenset({"grpc", "google", "torch"})),
    "hw.emulator.polymetis": Layer(
        ROOT / "hw/emulator/polymetis", VOCABULARY | {"hw", "hw.polymetis"}, frozenset({"grpc", "torch"})
    ),
    "hw": Layer(
        ROOT / "hw",
        VOCABULARY | {"hw.emulator.polymetis"},
        frozenset({"mujoco", "gymnasium", "pylibfranka", "pyrealsense2", "PIL", "pygame", "hid"}),
    ),
    "runtime": Layer(
        ROOT / "runtime",
        VOCABULARY | {"hw", "hw.polymetis"},
        frozenset({"onnxruntime", "onnx", "rich", "matplotlib", "PIL", "zmq", "tokenizers"}),
        never=("poco.hw.emulator",),
    ),
    "learner": Layer(
        ROOT / "learner",
        VOCABULARY,
        frozenset(
            {"torch", "gymnasium", "matplotlib", "rich", "ogbench", "tensorboard", "pyarrow", "h5py", "mcap", "av"}
            | {"lerobot", "transformers", "tokenizers"}
        ),
    ),
    "export": Layer(
        ROOT / "export",
        VOCABULARY,
        frozenset({"torch", "onnx", "onnxscript", "onnxruntime", "google", "transformers"}),
        modules=(
            "poco.learner.networks",
            "poco.learner.checkpoint",
            "poco.learner.image_policy",
            "poco.learner.resnet",
            "poco.learner.trained_policy",
            "poco.learner.vla",
        ),
    ),
}
FORBIDDEN_CALLS = {"eval", "exec", "__import__", "torch.load", "pickle.load", "pickle.loads"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


def sources(folder: Path) -> list[Path]:
    """Python files of `folder` itself; what lies in it and has a row of its own, or is a link to another layer, is left to that."""
    links = {folder / name for name in LINKED if (folder / name).is_symlink()}
    rows = {row.folder for row in LAYERS.values() if row.folder != folder and folder in row.folder.parents}
    return sorted(path for path in folder.rglob("*.py") if not (links | rows).intersection(path.parents))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that `path` imports, at the top or inside a function."""
    package = ("poco", *path.relative_to(ROOT / "src/poco" if path.is_relative_to(ROOT / "src") else ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            near = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*near, *filter(None, [node.module])))
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def layer_of(name: str) -> str:
    """The layer a module of poco belongs to."""
    return next((layer for layer in LAYERS if within(name, f"poco.{layer}")), "vocabulary")


def refused(layer: str, name: str) -> bool:
    """Whether the table forbids `layer` to import `name`."""
    row = LAYERS[layer]
    top = name.partition(".")[0]
    if top != "poco":
        return top not in sys.stdlib_module_names | FOR_ALL | row.third_party
    if any(within(name, never) for never in row.never):
        return True
    return layer_of(name) not in row.layers | {layer} and not any(within(name, module) for module in row.modules)


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_follow_the_table(layer: str) -> None:
    """No module of a folder imports what the table in CONTRIBUTING.md does not give it."""
    paths = sources(LAYERS[layer].folder)
    assert paths
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in paths
        for line, name in imports(path)
        if refused(layer, name)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("vocabulary", "torch"),
        ("vocabulary", "poco.hw.task_signals"),
        ("hw", "poco.runtime.cli"),
        ("runtime", "torch.nn"),
        ("runtime", "poco.hw.emulator.server"),
        ("learner", "poco.hw.emulator.tasks"),
        ("export", "poco.learner.cloning"),
    ],
)
def test_table_refuses(layer: str, name: str) -> None:
    """The rule itself catches a sample of each forbidden direction."""
    assert refused(layer, name)


def test_sockets_of_the_link_are_in_one_place() -> None:
    """In the vocabulary only the link's own sockets and keys touch ZeroMQ: a socket made elsewhere would not be authenticated."""
    users = {
        str(path.relative_to(ROOT))
        for path in sources(LAYERS["vocabulary"].folder)
        for _, name in imports(path)
        if within(name, "zmq")
    }
    assert users == {"src/poco/link/sockets.py", "src/poco/link/keys.py"}


def test_gpu_libraries_are_in_one_place() -> None:
    """In the vocabulary only the building of engines touches TensorRT and CUDA."""
    users = {
        str(path.relative_to(ROOT))
        for path in sources(LAYERS["vocabulary"].folder)
        for _, name in imports(path)
        if name.partition(".")[0] in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "cuda")
    }
    assert users == {"src/poco/engines/build.py", "src/poco/engines/device.py"}


def test_nothing_runs_a_strangers_bytes() -> None:
    """No pickle, no torch.load, no eval and no allow_pickle in any layer, by import, call or keyword."""
    wrong = []
    for rules in LAYERS.values():
        for path in sources(rules.folder):
            wrong += [
                f"{path}:{line}: {name}" for line, name in imports(path) if name.partition(".")[0] in FORBIDDEN_MODULES
            ]
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                if ast.unparse(node.func) in FORBIDDEN_CALLS:
                    wrong.append(f"{path}:{node.lineno}: {ast.unparse(node.func)}")
                wrong += [f"{path}:{node.lineno}: allow_pickle" for key in node.keywords if key.arg == "allow_pickle"]
    assert wrong == []


@pytest.mark.parametrize("name", LINKED)
def test_folders_are_relative_links(name: str) -> None:
    """src/poco reaches the folders by relative links, so that a clone works wherever it lies."""
    link = ROOT / "src/poco" / name
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == ROOT / name


def test_files_stay_small() -> None:
    """No source file grows past what one reads in a sitting (400 lines)."""
    long = {
        str(path.relative_to(ROOT)): length
        for rules in LAYERS.values()
        for path in sources(rules.folder)
        if (length := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_torch_on_the_robots_side_is_in_two_files() -> None:
    """Torch serves Polymetis' controllers, in one file for each end of that wire, and nothing else beside an arm."""
    users = {
        str(path.relative_to(ROOT))
        for layer in ("vocabulary", "hw", "hw.polymetis", "hw.emulator.polymetis", "runtime")
        for path in sources(LAYERS[layer].folder)
        for _, name in imports(path)
        if within(name, "torch")
    }
    assert users == {"hw/polymetis/controller.py", "hw/emulator/polymetis/host.py"}


def test_the_policys_processes_import_no_torch() -> None:
    """Supervisor, policy, servo and gripper import neither torch nor gRPC, whatever the arm is behind."""
    modules = "supervisor policy servo gripper cli"
    code = "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(f'poco.runtime.{name}')\n"
    code += "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'grpc'}))"
    done = subprocess.run([sys.executable, "-c", code, *modules.split()], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
