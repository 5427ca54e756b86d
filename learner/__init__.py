"""Learning on the workstation: networks, demonstrations, behaviour cloning, checkpoints."""
