"""Learning on the workstation: networks, demonstrations, behaviour cloning, POCO and its replay, checkpoints."""
