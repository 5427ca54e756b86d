"""The way from this computer to the arm, as far as the kernel tells and one port answers."""

from __future__ import annotations

import fcntl
import re
import socket
import statistics
import struct
import time
from pathlib import Path

from poco.hw.franka_versions import PROTOCOL, SPEAKERS, remedy
from poco.runtime.findings import ROOT, Finding, cpu_list, judged

ARM_PORT = 1337
CONNECT_LIMIT_S = 1.0
CONNECTIONS = 5
GOOD_ROUND_TRIP_US = 1000.0
GOOD_SPEED_MBIT_S = 1000
LOOPBACK = "lo"
SIOCGIFADDR = 0x8915
_CONNECT = struct.Struct("<IIIHH")
"""Command 0, its number, size; version and UDP port."""
_ANSWER = struct.Struct("<IIIBH")
"""The same head; status and the arm's version."""


def interface_towards(host: str) -> str | None:
    """Return the name of the network interface that reaches `host` (an IPv4 address or name), None if there is no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, ARM_PORT))  # a datagram socket sends nothing here
        except OSError:
            return None
        own = probe.getsockname()[0]
        if own.startswith("127."):
            return LOOPBACK
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # has no address
            if socket.inet_ntoa(answer[20:24]) == own:
                return name
    return None


def network(host: str, servo_cpu: int | None, answer_needed: bool, root: Path = ROOT) -> list[Finding]:
    """Examine interface, interrupts and round trip towards `host`; `answer_needed`: an arm must be there already."""
    interface = interface_towards(host)
    if interface is None:
        remedy = "connect the cable and give this computer an address in the arm's network, or correct robot.host"
        return [judged("network", False, f"no route to {host}", remedy, "fail")]
    findings = [Finding(what="network", grade="ok", seen=f"{host} by loopback")]
    if interface != LOOPBACK:
        findings = [link(host, interface, root), sharing(interface, root), interrupts(interface, servo_cpu, root)]
    if answer_needed:
        findings.append(round_trip(host))
        if findings[-1].grade != "fail":
            findings.append(protocol(host))
    return findings


def link(host: str, interface: str, root: Path = ROOT) -> Finding:
    """Judge kind, state and speed of the interface."""
    folder = root / "sys/class/net" / interface
    wireless = (folder / "wireless").exists()
    state = (folder / "operstate").read_text().strip()
    speed_mbit_s = _speed(folder / "speed")
    good = not wireless and state != "down" and (speed_mbit_s is None or speed_mbit_s >= GOOD_SPEED_MBIT_S)
    rate = "unknown speed" if speed_mbit_s is None else f"{speed_mbit_s} Mbit/s"
    seen = f"{host} by {interface}, {'wireless' if wireless else rate}, {state}"
    return judged("network", good, seen, "use a direct cable of 1 Gbit/s between this computer and Control")


def _speed(file: Path) -> int | None:
    try:
        speed = int(file.read_text())
    except OSError:  # a virtual interface has none
        return None
    return speed if speed > 0 else None


def sharing(interface: str, root: Path = ROOT) -> Finding:
    """Look whether the arm has the interface to itself."""
    rows = [line.split() for line in (root / "proc/net/route").read_text().splitlines()[1:]]
    shared = any(row[0] == interface and row[1] == "00000000" for row in rows)
    seen = f"{interface} {'also carries the default route' if shared else 'is the arm only'}"
    return judged("network sharing", not shared, seen, "give the arm a network card of its own")


def interrupts(interface: str, servo_cpu: int | None, root: Path = ROOT) -> Finding:
    """Look whether interrupts of the interface may run on the servo's CPU."""
    lines = (root / "proc/interrupts").read_text().splitlines()
    numbers = [found[1] for line in lines if (found := re.match(rf"\s*(\d+):.*\b{re.escape(interface)}\b", line))]
    cpus: set[int] = set()
    for number in numbers:
        cpus |= cpu_list((root / "proc/irq" / number / "smp_affinity_list").read_text())
    seen = f"{len(numbers)} of {interface}, on CPUs {sorted(cpus) or 'not listed'}"
    remedy = f"write another CPU to /proc/irq/N/smp_affinity_list of {', '.join(numbers)} and stop irqbalance"
    return judged("interrupts", servo_cpu is None or servo_cpu not in cpus, seen, remedy)


def round_trip(host: str) -> Finding:
    """Time a few connections to the arm's command port; nothing is sent on them."""
    spent_us = []
    for _ in range(CONNECTIONS):
        before_s = time.monotonic()
        try:
            socket.create_connection((host, ARM_PORT), CONNECT_LIMIT_S).close()
        except OSError as error:
            remedy = "unlock the arm and activate FCI in Desk, or start poco-emulator there"
            return judged("round trip", False, f"{host} port {ARM_PORT}: {error.strerror or error}", remedy, "fail")
        spent_us.append((time.monotonic() - before_s) * 1e6)
    middle = statistics.median(spent_us)
    seen = f"{middle:.0f} us to {host} port {ARM_PORT} (median of {CONNECTIONS} connections)"
    return judged("round trip", middle <= GOOD_ROUND_TRIP_US, seen, "use a direct cable without switches")


def protocol(host: str) -> Finding:
    """Ask the arm at `host` which protocol it speaks, as a client of a protocol that no arm has: it answers that it refuses."""
    try:
        with socket.create_connection((host, ARM_PORT), CONNECT_LIMIT_S) as arm:
            arm.sendall(_CONNECT.pack(0, 0, _CONNECT.size, 0, 0))
            answer = b""
            while len(answer) < _ANSWER.size and (part := arm.recv(_ANSWER.size)):
                answer += part
        spoken = int(_ANSWER.unpack(answer)[4])
    except (OSError, struct.error) as error:
        return judged("protocol", False, f"no answer to Connect ({error})", "activate FCI in Desk", "fail")
    speaker = SPEAKERS.get(spoken)
    seen = f"{spoken}" + (f" ({speaker.arm}, system {speaker.system})" if speaker else "")
    return judged("protocol", spoken == PROTOCOL, seen, remedy(spoken), "fail")
