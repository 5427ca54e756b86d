"""`poco-learner`: demonstrations, behaviour cloning, online learning and evaluation on the workstation.

Examples:
  poco-learner make-data --variant easy --noise 0.2 --bias-m 0 --episodes 300 --out runs/demonstrations
  poco-learner make-data --config configs/paper/puzzle_3x3.yaml --play-steps 1000 --noise 0.1 --episodes 1000 --out runs/play
  poco-learner import-data --format robomimic --source can_mh.hdf5 --out runs/can
  poco-learner import-data --format lerobot --source my_dataset --out runs/mine
  poco-learner export-data --data runs/demonstrations --task "put the peg in the hole" --out runs/lerobot
  poco-learner clone --data runs/demonstrations --out runs/checkpoint --steps 20000
  poco-learner evaluate --checkpoint runs/checkpoint --variant hard --episodes 100
  poco-learner make-data --image-side 64 --noise 0.2 --episodes 200 --out runs/seen
  poco-learner clone --data runs/seen --out runs/seeing --steps 3000 --batch 64
  poco-learner train --config configs/cpu/peg_in_hole.yaml --data runs/demonstrations --start runs/checkpoint --out runs/online
  poco-learner train --out runs/online --resume
  poco-learner evaluate --checkpoint runs/online --best-of 8
  poco-learner adopt --checkpoint CHECKPOINT --specification SPEC.yaml --task "put the peg in" --tokenizer DIR --out runs/adopted
  poco-learner clone --data runs/demonstrations --start runs/adopted --out runs/checkpoint --steps 3000 --batch 64
  poco-learner serve --artifact artifacts/peg_in_hole --config configs/cpu/peg_in_hole.yaml --out runs/served
  poco-learner compare --configs configs/cpu/peg_in_hole.yaml --start runs/checkpoint --out runs/compared

Exit codes: 0 done, 1 something else with a sentence of its own, 2 usage, 3 recipe, 4 data, checkpoint, artifact or key, 6 address,
130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from poco.command_line import run_command
from poco.errors import guard
from poco.learner.adopting_commands import adopt
from poco.learner.cloning_commands import clone
from poco.learner.data_commands import export_data, import_data, make_data
from poco.learner.serving_commands import serve
from poco.learner.training_commands import compare, evaluate, train


def main() -> None:
    """Run `poco-learner`; SIGTERM does what Ctrl-C does."""
    commands: dict[str, Callable[..., None]] = {
        "make-data": make_data,
        "import-data": import_data,
        "export-data": export_data,
        "adopt": adopt,
        "clone": clone,
        "train": train,
        "evaluate": evaluate,
        "serve": serve,
        "compare": compare,
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    guard(lambda: run_command(commands, "poco-learner", __doc__))


if __name__ == "__main__":
    main()
