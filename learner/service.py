"""Learning from robots: take in what they sent, learn for a moment, keep a checkpoint, publish; again and again.

Everything takes turns in one thread and in slices, so that neither arriving episodes nor a publication nor Ctrl-C waits long. The
link has a thread of its own (`link_server`); what arrives is durable there before it is learned from here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

from poco.errors import ArtifactError
from poco.learner import intake, training_state
from poco.learner.episode_assembly import Finished
from poco.learner.intake import Admitted
from poco.learner.learning import Learning
from poco.learner.link_server import LinkServer
from poco.learner.metrics import EpisodeFigures, Origin, read_figures
from poco.learner.publications import Publication, Publications
from poco.learner.vla.eyes import Eyes

SLICE_S = 0.05
EPISODES_A_TURN = 16
FLOOR_SPAN = 1000
"""How far above the newest generation made here a robot may claim to be; robots allow as much unless told otherwise."""

RECENT = 20
"""So many episodes are in the success that is shown."""


def floor_of(generations: Mapping[str, int], newest: int) -> int:
    """Return the highest of the `generations` that robots have seen and that lie within FLOOR_SPAN of the `newest` made here."""
    return max((seen for seen in generations.values() if seen <= newest + FLOOR_SPAN), default=0)


class Service:
    """One learner of many robots; the thread that trains owns it.

    An episode counts once: a checkpoint holds networks, counters and replay watermark together with the position of the inbox up to
    which they learned. A resumed run forgets what followed its checkpoint and gets it from the inbox again, where it stays until
    every checkpoint that is kept has it.

    Robots are driven by an earlier actor than the one that learns. The success of an episode is that of the generation that drove
    it, so that is what the guard may take back; one that is no longer known, or was another learner's, it cannot.
    """

    def __init__(self, learning: Learning, server: LinkServer, publications: Publications) -> None:
        """Offer the newest generation anew; raises ArtifactError if the inbox lacks what the checkpoint has learned from."""
        self.learning, self.server, self.publications = learning, server, publications
        if server.status.position < learning.position:
            raise ArtifactError(
                f"the inbox of {learning.run.out} ends at {server.status.position}, the checkpoint has learned up to "
                f"{learning.position}: put the inbox back or begin another run"
            )
        self.admitted = Admitted()
        before = read_figures(learning.run.out) if learning.progress.episodes else []
        self.recent = deque((one.success for one in before), maxlen=RECENT)
        self.driving = {one.origin.robot: one.origin.generation for one in before if one.origin}
        self.new_figures: deque[EpisodeFigures] = deque()
        self.new_publications: deque[Publication] = deque()
        self._accepted: list[dict[str, float]] = []
        if publications.newest is not None:
            server.publish(publications.generation, publications.newest.pack())

    def turn(self) -> bool:
        """Do a little of everything that is due; return whether there was anything to do.

        Raises PocoError if the link has ended, the disk is full or learning has gone wrong for good.
        """
        arrived = self._take_in()
        self._publish()
        return self._learn() or arrived

    def checkpoint(self) -> None:
        """Keep everything, then give up what of the inbox no checkpoint needs any more."""
        self.learning.checkpoint()
        self.server.trim(training_state.oldest_position(self.learning.run.out / "states"))

    @property
    def floor(self) -> int:
        """The highest generation that a robot has seen, 0 if none came yet; one that claims more than FLOOR_SPAN ahead is left out.

        The others would refuse a generation that far ahead, so that one robot could keep all from ever getting one again.
        """
        return floor_of(self.server.status.generations, self.publications.generation)

    @property
    def too_far_ahead(self) -> list[str]:
        """The robots that claim so much; nothing that this learner makes is new to them."""
        highest = self.publications.generation + FLOOR_SPAN
        return sorted(robot for robot, seen in self.server.status.generations.items() if seen > highest)

    def _take_in(self) -> bool:
        for taken in range(EPISODES_A_TURN):
            finished = self.server.next_finished(self.learning.position)
            if finished is None:
                return taken > 0
            self._admit(finished)
        return True

    def _admit(self, finished: Finished) -> None:
        """Admit an episode and conclude it with the updates taken since the one before; its own updates are owed from now on."""
        learning, end = self.learning, finished.end
        eyes = learning.run.eyes
        changed = intake.admit(finished, learning.replay, self.admitted, eyes if isinstance(eyes, Eyes) else None)
        learning.position = finished.position
        if not changed or not finished.steps:
            return
        beliefs = learning.count(len(finished.steps))
        success = end.outcome == "success"
        origin = Origin(
            robot=end.robot,
            boot_epoch=end.boot_epoch,
            episode=end.episode,
            generation=finished.steps[-1].generation,
            steps=len(finished.steps),
            admitted_unix_s=time.time(),
        )
        driver = self.publications.actor(origin.generation) or learning.best
        figures = learning.conclude(success, learning.phase(), self._accepted, beliefs, origin, driver)
        self._accepted = []
        self.recent.append(success)
        self.driving[origin.robot] = origin.generation
        self.publications.forget(min(self.driving.values()))
        self.new_figures.append(figures)
        if figures.verdict == "roll_back" or figures.episode % learning.run.settings.checkpoint_interval == 0:
            self.checkpoint()

    def _learn(self) -> bool:
        """Take updates that are owed, for a moment."""
        learning, deadline_s = self.learning, time.monotonic() + SLICE_S
        taken = 0
        while learning.owed > 0 and len(learning.replay) and time.monotonic() < deadline_s:
            phase = learning.phase()
            figures = learning.update(phase)
            taken += 1
            if figures:
                self._accepted.append(figures)
                if phase != "frozen":
                    self.publications.learned()
        return taken > 0

    def _publish(self) -> None:
        """Publish if it is due: first the checkpoint that the generation comes from, then the generation, then the offer."""
        learning, publications, floor = self.learning, self.publications, self.floor
        cause = publications.due(floor, learning.progress.guard.roll_backs)
        if cause is None:
            return
        offer = publications.make(learning.acting, cause, floor, learning.metrics())
        if offer is None:
            return
        self.checkpoint()
        self.new_publications.append(publications.keep(offer, cause))
        self.server.publish(publications.generation, offer.pack())
