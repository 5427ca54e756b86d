"""A wrong word on the command line is one sentence and exit code 2, whichever program it is given to."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

PROGRAMS = {
    "poco-emulator": "from poco.hw.emulator.cli import main; main()",
    "poco-learner": "from poco.learner.cli import main; main()",
    "poco-export": "from poco.export.cli import main; main()",
    "poco-journal": "from poco.learner.journal_cli import main; main()",
    "poco-keys": "from poco.link.keys_cli import main; main()",
    "poco-trust": "from poco.trust_cli import main; main()",
}

WITHOUT_TORCH = """
class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Without())
"""


def run(program: str, *words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\n{before}\nsys.argv = [{program!r}, *sys.argv[1:]]; {PROGRAMS[program]}"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_has_examples_and_exit_codes(program: str) -> None:
    """As the README says of each."""
    shown = run(program, "--help")
    text = " ".join(shown.stdout.split())
    assert shown.returncode == 0, shown.stderr
    assert "xamples: " in text
    assert "Exit codes: 0 done, " in text


@pytest.mark.parametrize(
    ("program", "words", "expected"),
    [
        ("poco-emulator", ["--hots", "127.0.0.1"], "(did you mean --host?)"),
        ("poco-emulator", ["--pacing", "fast"], "invalid choice 'fast'"),
        ("poco-emulator", ["--recovery-delay-s", "soon"], "soon"),
        (
            "poco-learner",
            ["clone", "--data", "x", "--out", "y", "--stpes", "1"],
            "--stpes, 1 (did you mean --steps?); see poco-learner clone --help",
        ),
        ("poco-export", ["polcy", "x"], "polcy, x; known are policy, wrap, vla"),
    ],
)
def test_a_wrong_word_is_one_sentence(program: str, words: list[str], expected: str) -> None:
    """The word is named, the remedy points to --help, and there is nothing else on standard error."""
    done = run(program, *words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert re.search(rf"; see {program}( clone)? --help$", done.stderr.rstrip())


@pytest.mark.parametrize(
    ("program", "words", "expected"),
    [
        ("poco-journal", ["export", "x"], "poco-journal export needs --to {lerobot,mcap}, --out PATH; "),
        ("poco-keys", ["init"], "poco-keys init needs NAME; "),
        ("poco-learner", ["adopt", "CHECKPOINT"], "--tokenizer PATH, --out PATH; "),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_is_missing_is_named_without_its_help(
    program: str, words: list[str], expected: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flags are listed, and the help that is pointed to is that of the command, whether tyro draws a frame or not."""
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    done = run(program, *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert expected in done.stderr
    assert "required" not in done.stderr
    assert done.stderr.rstrip().endswith(f"see {program} {words[0]} --help")


@pytest.mark.parametrize(
    ("program", "words"),
    [("poco-learner", ["clone", "--data", "x", "--out", "y"]), ("poco-export", ["policy", "x", "--out", "y"])],
)
def test_a_missing_package_is_one_sentence(program: str, words: list[str]) -> None:
    """Where only the robot side is installed, the package is named and how to get it."""
    done = run(program, *words, before=WITHOUT_TORCH)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("error: torch is not installed")
    assert "make learner" in done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_help(program: str) -> None:
    """--help prints to standard output and leaves with 0."""
    done = run(program, "--help")
    assert done.returncode == 0
    assert program in done.stdout
    assert done.stderr == ""


ONLY_PARSE = """
import contextlib, shlex
from poco import command_line
lines, parse = sys.argv[1:], command_line._parse
command_line._parse = lambda *given: (parse(*given), sys.exit)[1]
for line in lines:
    sys.argv = shlex.split(line, comments=True)
    with contextlib.suppress(SystemExit):
        main()
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_example_of_help_can_be_pasted(program: str) -> None:
    """Each names flags that there are; what explains it is a comment of the shell. Parsed by the program, not run."""
    examples = [line for line in run(program, "--help").stdout.splitlines() if line.startswith(f"  {program}")]
    assert len(examples) > 3
    start = PROGRAMS[program].removesuffix("; main()")
    code = f"import sys\n{start}\n{ONLY_PARSE}"
    done = subprocess.run(
        [sys.executable, "-c", code, *examples], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
