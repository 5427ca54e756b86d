"""Vision-language-action policies of LeRobot as policies that learn; their libraries are imported where they are used only."""
