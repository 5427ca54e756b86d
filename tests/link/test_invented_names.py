"""A learner without keys, where a name costs nothing: only so many robots become known, and those that are lose nothing."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import zmq

from link_run import LinkRun, finished, steps_of, until
from lossy_disk import LossyDisk
from poco.learner.inbox import LogInbox
from poco.learner.link_server import LinkServer
from poco.link.learner_side import GONE_NS, ROBOTS_MAX, LearnerSide
from poco.link.messages import PROTOCOL, Hello, Refused, Welcome, from_learner, pack
from poco.link.sockets import Network
from synthetic_run import specification

DIGEST = specification().digest()
NAMES = 3 * ROBOTS_MAX
NAMES_A_CONNECTION = 10


def hello(name: str) -> list[bytes]:
    """What a robot called `name` says first."""
    return pack(
        Hello(
            protocol=PROTOCOL,
            robot=name,
            journal="j",
            specification_hash=DIGEST,
            generation=0,
            first_sequence=1,
            durable_sequence=0,
        )
    )


def answers_to(names: list[str], socket: zmq.Socket[bytes]) -> list[Welcome | Refused]:
    """Say Hello under each of `names`; return what the learner answers."""
    answers: list[Welcome | Refused] = []
    for name in names:
        socket.send_multipart(hello(name))
        until(lambda: socket.poll(0) != 0, f"for an answer to {name}")
        received = from_learner(socket.recv_multipart())
        assert received is not None
        assert isinstance(received[0], Welcome | Refused)
        answers.append(received[0])
    return answers


def test_invented_names(tmp_path: Path) -> None:
    """A robot that is known goes on, also with a learner that starts again; the names beyond the limit leave nothing."""
    server = LinkServer(tmp_path / "inbox", DIGEST, "tcp://127.0.18.38:0", None)
    address = server.address
    run = LinkRun(tmp_path, "arm1", address)
    network = Network(None)
    names = (f"stranger{number}" for number in count())
    try:
        run.writer.begin()
        run.writer.make(40)
        run.writer.settle()
        episodes = finished(server, 2)
        answers: list[Welcome | Refused] = []
        while len(answers) < NAMES:
            socket = network.connect(address, "")
            answers += answers_to([next(names) for _ in range(NAMES_A_CONNECTION)], socket)
            socket.close()
        welcome = ROBOTS_MAX - 1
        assert all(isinstance(answer, Welcome) for answer in answers[:welcome])
        for answer in answers[welcome:]:
            assert isinstance(answer, Refused)
            assert f"it knows {ROBOTS_MAX} robots" in answer.reason
        until(lambda: f"refuses a robot: it knows {ROBOTS_MAX} robots" in server.status.trouble, "for the complaint")
        assert len(server.status.generations) == ROBOTS_MAX
        run.writer.make(20)
        run.writer.settle()
        episodes += finished(server, 1)
        server.close()
        server = LinkServer(tmp_path / "inbox", DIGEST, address, None)
        assert len(server.status.generations) == ROBOTS_MAX
        socket = network.connect(address, "")
        known, unknown = answers_to(["stranger0", next(names)], socket)
        assert isinstance(known, Welcome)
        assert isinstance(unknown, Refused)
        run.writer.make(20)
        run.writer.settle()
        episodes += finished(server, 4)[3:]
        assert [list(episode.steps) for episode in episodes] == steps_of(run.writer.offered)
        assert run.stop() == ""
    finally:
        run.process.kill()
        network.close()
        server.close()


def test_the_complaint_ends_with_the_strangers() -> None:
    """It stands for as long as names beyond the limit come; with keys, which somebody hands out, there is no limit."""
    side = LearnerSide(LogInbox(LossyDisk(0), DIGEST), DIGEST, authenticated=False)
    for number in range(ROBOTS_MAX):
        side.receive(b"peer", "", hello(f"arm{number}"), 0)
    assert side.trouble == ""
    side.receive(b"peer", "", hello("one more"), 0)
    side.forget_silent(GONE_NS)
    assert f"it knows {ROBOTS_MAX} robots" in side.trouble
    side.forget_silent(GONE_NS + 1)
    assert side.trouble == ""
    inbox = LogInbox(LossyDisk(0), DIGEST)
    keyed = LearnerSide(inbox, DIGEST, authenticated=True)
    for number in range(NAMES):
        keyed.receive(b"peer", f"arm{number}", hello(f"arm{number}"), 0)
    assert (len(inbox.generations), keyed.trouble) == (NAMES, "")
