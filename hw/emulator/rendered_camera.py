"""A camera in the simulated scene: renders, in a process of its own, what the emulator says is where."""

from __future__ import annotations

import time
from dataclasses import replace

import mujoco

from poco.clock import monotonic_ns
from poco.errors import ArmError, CameraError
from poco.settings import CameraSettings

from ..cameras import Exposure, Pixels, mark_of
from ..task_driver import LOCKSTEP
from ..task_messages import Filmed
from ..task_signals import EmulatorSignals
from .renderer import open_renderer

LOCKSTEP_POLL_S = 0.001
SLOW_NS = 250_000_000
"""How far apart the frames of a camera are that has been made slow."""

POSE_NUMBERS = 7


class RenderedCamera:
    """Takes `rate_hz` pictures a second; of an arm in lockstep also one whenever its time stands still for the policy.

    An exposure has no length here and is stamped with the tick and time of the scene it shows. Its mark holds the tick as well as
    the pixels, since a renderer has no noise that would tell two exposures of a scene at rest apart. The emulator says with it
    what a camera is to suffer from.
    """

    def __init__(self, camera: CameraSettings, address: str) -> None:
        """Get the scene from the emulator at `address`; raises CameraError, AddressError, or PocoError without a way to render."""
        self._camera = camera
        self._signals = EmulatorSignals(address)
        try:
            self._model = mujoco.MjModel.from_xml_string(self._signals.scene())
            self._lockstep = self._signals.status().pacing == LOCKSTEP
        except ArmError as error:
            raise CameraError(f"camera {camera.name} cannot be rendered: {error}") from error
        self._data = mujoco.MjData(self._model)
        self._known = [self._model.camera(number).name for number in range(self._model.ncam)]
        if camera.name not in self._known:
            raise CameraError(
                f"the scene has no camera {camera.name}, it has {', '.join(self._known)}: take one of them"
            )
        limits = self._model.vis.global_
        if camera.width > limits.offwidth or camera.height > limits.offheight:
            raise CameraError(
                f"camera {camera.name} would have {camera.width} x {camera.height} pixels, the scene is rendered with up to "
                f"{limits.offwidth} x {limits.offheight}: make it smaller"
            )
        self._renderer = open_renderer(self._model, camera.height, camera.width)
        self._period_ns = 1_000_000_000 // camera.rate_hz
        self._number, self._tick, self._taken_ns = 0, -1, 0
        self._last: Exposure | None = None
        self._due_ns = monotonic_ns()

    @property
    def facts(self) -> dict[str, str]:
        """What it shows and how often."""
        camera = self._camera
        return {"device": "rendered", "size": f"{camera.width}x{camera.height}", "rate_hz": str(camera.rate_hz)}

    def read(self, timeout_s: float) -> Exposure | None:
        """Wait until an exposure is due and render it; None if the emulator's time stands still. Raises CameraError without it."""
        deadline_ns = monotonic_ns() + round(timeout_s * 1e9)
        while monotonic_ns() < deadline_ns:
            if not self._lockstep:
                time.sleep(max(0.0, self._due_ns - monotonic_ns()) * 1e-9)
            before_ns = monotonic_ns()
            try:
                filmed = self._signals.film(self._camera.name)
            except ArmError as error:
                raise CameraError(f"camera {self._camera.name} has lost its scene: {error}") from error
            now_ns = monotonic_ns()
            if filmed.tick != self._tick and (filmed.held or now_ns >= self._due_ns):
                self._due_ns += self._period_ns
                if now_ns > self._due_ns:
                    self._due_ns = now_ns + self._period_ns
                exposure = self._expose(filmed, (before_ns + now_ns) // 2)
                if exposure is not None:
                    return exposure
            time.sleep(LOCKSTEP_POLL_S)
        return None

    def remarks(self) -> list[str]:
        """Return nothing: its clock is this computer's."""
        return []

    def close(self) -> None:
        """Free the renderer and leave the emulator."""
        self._renderer.close()
        self._signals.close()

    def _expose(self, filmed: Filmed, t_ns: int) -> Exposure | None:
        """Return the picture of the scene as it is `filmed`, or what a camera that suffers makes of it."""
        self._number, self._tick = self._number + 1, filmed.tick
        slow = filmed.fault == "slow" and t_ns - self._taken_ns < SLOW_NS
        if filmed.fault == "dropped" or slow:
            return None
        if filmed.fault == "frozen" and self._last is not None:
            return replace(self._last, number=self._number, t_ns=t_ns, tick=filmed.tick)
        name = self._camera.name
        if filmed.fault == "swapped":
            name = self._known[self._known.index(name) - 1]
        pixels = self._render(filmed, name)
        self._taken_ns = t_ns
        self._last = Exposure(self._number, t_ns, filmed.tick, name, mark_of(pixels) ^ filmed.tick << 32, pixels)
        return self._last

    def _render(self, filmed: Filmed, name: str) -> Pixels:
        data = self._data
        data.qpos[:] = filmed.qpos
        for number in range(self._model.nmocap):
            pose = filmed.mocap[POSE_NUMBERS * number : POSE_NUMBERS * (number + 1)]
            data.mocap_pos[number], data.mocap_quat[number] = pose[:3], pose[3:]
        mujoco.mj_fwdPosition(self._model, data)
        self._renderer.update_scene(data, name)
        pixels: Pixels = self._renderer.render()
        return pixels
