"""What a robot lived through, kept durably and in order; the same log serves the robot's journal and the learner's inbox."""
