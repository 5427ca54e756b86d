"""The graph of an ImageEncoder, written node by node: weights are constants, since an encoder never changes.

Batch normalisation is folded into the convolutions. The graph makes the observation that the policy's graph reads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from poco.artifact import GraphInput, GraphOutput
from poco.errors import ArtifactError
from poco.export.to_onnx import IR_VERSION, OBSERVATION, OPSET
from poco.learner.image_policy import ImageEncoder
from poco.learner.resnet import Block, ResNet

Floats = npt.NDArray[np.float32]

IMAGES, STATE = "images", "state"


def encoder_inputs(encoder: ImageEncoder, state_size: int) -> tuple[GraphInput, ...]:
    """Return the inputs of the graph: images [1, cameras, 3, H, W] (u8) and state [1, S] in -1 ... 1."""
    return (
        GraphInput(name=IMAGES, source=IMAGES, shape=(1, *encoder.architecture.image_shape), dtype="uint8"),
        GraphInput(name=STATE, source=STATE, shape=(1, state_size)),
    )


def encoder_output(encoder: ImageEncoder, state_size: int) -> GraphOutput:
    """Return the output of the graph: the observation [1, O]."""
    return GraphOutput(name=OBSERVATION, shape=(1, encoder.architecture.size + state_size))


def encoder_graph(encoder: ImageEncoder, state_size: int) -> bytes:
    """Return the serialized ONNX model of `encoder` beside a state of `state_size`; raises ArtifactError if it still learns."""
    if encoder.training:
        raise ArtifactError("an encoder that still learns cannot be exported: clone it to its end")
    writer = _Writer()
    parts = []
    for number, camera in enumerate(encoder.architecture.cameras):
        network, squeeze = encoder.networks[number], encoder.squeezes[number]
        assert isinstance(network, ResNet)
        assert isinstance(squeeze, nn.Linear)
        index = writer.constant(f"{camera}_index", np.array(number, np.int64))
        image = writer.node("Gather", IMAGES, index, name=f"{camera}_image", axis=1)
        flat = writer.node("Flatten", _network(writer, network, image, camera), name=f"{camera}_flat", axis=1)
        weight, bias = (
            writer.constant(f"{camera}_{name}", tensor.numpy(force=True))
            for name, tensor in (("squeeze_weight", squeeze.weight), ("squeeze_bias", squeeze.bias))
        )
        squeezed = writer.node("Gemm", flat, weight, bias, name=f"{camera}_squeezed", transB=1)
        parts.append(writer.node("Tanh", squeezed, name=f"{camera}_features"))
    writer.node("Concat", *parts, STATE, name=OBSERVATION, axis=1)
    output = encoder_output(encoder, state_size)
    types = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
    graph = helper.make_graph(
        writer.nodes,
        "image_encoder",
        [
            helper.make_tensor_value_info(item.name, types[item.dtype], item.shape)
            for item in encoder_inputs(encoder, state_size)
        ],
        [helper.make_tensor_value_info(output.name, TensorProto.FLOAT, output.shape)],
        writer.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


class _Writer:
    """Nodes and constants of a graph under way."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, *inputs: str, name: str, **attributes: int | list[int]) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"make_{name}", **attributes))
        return name

    def convolution(self, image: str, layer: nn.Module, norm: nn.Module, name: str) -> str:
        """Convolve and normalise: w x scale and shift of the running statistics in one product."""
        assert isinstance(layer, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, variance, gain, offset = (
            tensor.double().numpy(force=True)
            for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        scale = gain / np.sqrt(variance + norm.eps)
        weight = layer.weight.double().numpy(force=True) * scale[:, None, None, None]
        (kernel, _), (stride, _), padding = layer.kernel_size, layer.stride, layer.padding
        assert not isinstance(padding, str)
        return self.node(
            "Conv",
            image,
            self.constant(f"{name}_weight", weight.astype(np.float32)),
            self.constant(f"{name}_bias", (offset - mean * scale).astype(np.float32)),
            name=name,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[padding[0]] * 4,
        )


def _network(writer: _Writer, network: ResNet, image: str, camera: str) -> str:
    """Write the residual network of `camera` behind `image` [1, 3, H, W] (u8) and return its feature maps."""
    deviation, mean = (tensor.double().numpy(force=True)[None] for tensor in (network.deviation, network.mean))
    value = writer.node("Cast", image, name=f"{camera}_levels", to=TensorProto.FLOAT)
    scale = writer.constant(f"{camera}_scale", (1.0 / (255.0 * deviation)).astype(np.float32))
    shift = writer.constant(f"{camera}_shift", (-mean / deviation).astype(np.float32))
    value = writer.node("Mul", value, scale, name=f"{camera}_scaled")
    value = writer.node("Add", value, shift, name=f"{camera}_normalised")
    value = writer.convolution(value, network.conv1, network.bn1, f"{camera}_first")
    value = writer.node("Relu", value, name=f"{camera}_first_active")
    value = writer.node(
        "MaxPool", value, name=f"{camera}_pooled", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
    )
    for stage, layer in enumerate((network.layer1, network.layer2, network.layer3, network.layer4), 1):
        for number, block in enumerate(layer):
            assert isinstance(block, Block)
            value = _block(writer, block, value, f"{camera}_{stage}_{number}")
    return value


def _block(writer: _Writer, block: Block, value: str, name: str) -> str:
    inner = writer.convolution(value, block.conv1, block.bn1, f"{name}_inner")
    inner = writer.node("Relu", inner, name=f"{name}_inner_active")
    outer = writer.convolution(inner, block.conv2, block.bn2, f"{name}_outer")
    if isinstance(block.downsample, nn.Sequential):
        value = writer.convolution(value, block.downsample[0], block.downsample[1], f"{name}_way_round")
    return writer.node("Relu", writer.node("Add", outer, value, name=f"{name}_sum"), name=f"{name}_active")
