"""Polymetis' two servers and the robot client beside the arm, over the simulated FR3: the same calls, the same traps.

Only what is stated of the real servers is imitated; nothing of their code is here. Torch runs the controllers that a client
uploads.
"""
