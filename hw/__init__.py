"""Devices and hard timing: the arm's driver, the native core, the simulated arm and its tasks; knows nothing of policies."""
