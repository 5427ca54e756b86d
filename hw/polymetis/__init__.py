"""Polymetis as an arm: its wire format, the controller that runs in its server, and the guards against that server's traps.

Only the bridge's own process imports `controller`, which needs torch.
"""
