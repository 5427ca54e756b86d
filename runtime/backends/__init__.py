"""What runs the graphs of a policy: ONNX Runtime on CPU or GPU, TensorRT; one interface, chosen by the settings."""
