"""Engines that TensorRT builds of a policy's graphs: the same building and keeping on the robot and in `poco-export engine`."""
