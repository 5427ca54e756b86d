"""The packets are exactly as long as the vendor's protocol 10 says, and their fields lie where it says."""

from __future__ import annotations

from poco.hw.emulator.protocol import COMMAND, CONNECT_RESPONSE, HEADER, STATE, Command, request_size, response


def test_datagrams_have_the_size_and_offsets_of_protocol_10() -> None:
    """State 1377 and command 371 bytes, with landmarks across the layout in place."""
    assert (STATE.itemsize, COMMAND.itemsize) == (1377, 371)
    assert STATE.fields is not None
    assert COMMAND.fields is not None
    landmarks = {"O_T_EE": 8, "m_ee": 392, "q": 596, "q_d": 624, "O_ddP_O": 940, "errors": 1290, "robot_mode": 1372}
    assert {name: STATE.fields[name][1] for name in landmarks} == landmarks
    assert COMMAND.fields["motion_generation_finished"][1] == 313


def test_requests_and_responses_have_the_size_of_protocol_10() -> None:
    """All twelve requests, and a response with one status byte."""
    sizes = [16, 125, 12, 428, 68, 60, 19, 140, 140, 116, 12, 12]
    assert [request_size(command) for command in Command] == sizes
    assert len(response(Command.MOVE, 3, b"\x01")) == 13
    assert HEADER.itemsize + CONNECT_RESPONSE.itemsize == 15
