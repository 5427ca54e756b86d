"""The bridge to a Polymetis server: stands where the servo process stands for an arm behind Franka's own interface."""
