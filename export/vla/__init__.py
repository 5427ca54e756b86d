"""From a LeRobot checkpoint of a vision-language-action policy to an artifact."""
