"""The simulated FR3: MuJoCo physics behind the network interface of the real arm, and the tasks in its scene."""
