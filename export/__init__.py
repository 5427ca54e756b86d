"""From a checkpoint or any ONNX chunk policy to an artifact the robot runs."""
