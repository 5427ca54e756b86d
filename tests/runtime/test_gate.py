"""Only a signed, fitting, whole and newer policy passes the gate; everything else is refused with the reason that is true."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mutations import NEW_GRAPHS, ON_THE_WAY, SIGNED_AGAIN
from poco.artifact import Artifact, read_artifact
from poco.learner.publish import Publisher, policy_of
from poco.offer import Offer, unpack_offer
from poco.refusal import Reason, Refused
from poco.runtime.encoder import encoder_of
from poco.runtime.gate import examine, judge, read_verdicts
from poco.runtime.incoming import leave_offer
from poco.trust import write_trust
from programs import PATIENCE_S, ROOT
from workshop import Workshop, trust_list

SEEING = ROOT / "artifacts" / "peg_in_hole_seen"


@pytest.fixture
def workshop(artifact: Artifact, tmp_path: Path) -> Workshop:
    """A robot that has taken the first generation from a learner whose key it trusts."""
    made = Workshop(artifact, tmp_path)
    verdict = judge(made.first(), made.store, made.trust, made.rules)
    assert verdict.reason == ""
    return made


def reason(workshop: Workshop, offer: Offer) -> str:
    """What the gate says to `offer`."""
    return judge(offer, workshop.store, workshop.trust, workshop.rules).reason


def test_generations_pass_in_order_and_the_robot_starts_with_the_one_it_activated(workshop: Workshop) -> None:
    """Three generations of one graph pass without the graph being sent again; boot gives what was activated, bit for bit."""
    for generation in (2, 3, 7):
        verdict = judge(workshop.offer(generation), workshop.store, workshop.trust, workshop.rules)
        assert (verdict.reason, verdict.publisher, verdict.generation) == ("", "learner", generation)
        offered = workshop.store.pointer("offered")
        assert offered is not None
        workshop.store.activate(offered)
    started = workshop.store.boot()
    assert started is not None
    assert started.manifest.generation == 7
    assert started.manifest.parent == 0
    for key, tensor in workshop.trained(7).items():
        np.testing.assert_array_equal(started.tensors[key], tensor)


def test_nine_update_attacks_are_refused_with_nine_reasons(workshop: Workshop) -> None:
    """The attacks that The Update Framework names, each as an attacker would make it, each with a reason of its own."""
    sound, later = workshop.offer(3), workshop.offer(4)
    assert reason(workshop, sound) == ""
    thief = workshop.key
    mixed = Offer(
        later.manifest, later.signature, {**later.files, "trained.safetensors": sound.files["trained.safetensors"]}
    )
    told = {
        "arbitrary install": reason(workshop, workshop.offer(4, key=Ed25519PrivateKey.generate())),
        "rollback": reason(workshop, workshop.offer(2)),
        "fast-forward": reason(workshop, workshop.offer(500)),
        "freeze": reason(workshop, workshop.offer(4, expires_unix_s=int(time.time()) - 1)),
        "mix and match": reason(workshop, mixed),
        "wrong target": reason(workshop, SIGNED_AGAIN["specification"][0](workshop, later, np.random.default_rng(0))),
        "extraneous files": reason(workshop, Offer(later.manifest, later.signature, {**later.files, "more.py": b"1"})),
    }
    with pytest.raises(Refused) as endless:
        unpack_offer(later.pack() + bytes(workshop.rules.bytes_max), workshop.rules.bytes_max)
    told["endless data"] = endless.value.reason
    write_trust(workshop.folder / "trust", trust_list(thief, 2, expires_unix_s=1), workshop.root)
    told["key loss"] = reason(workshop, workshop.offer(4, key=thief))
    assert told == {
        "arbitrary install": Reason.UNKNOWN_KEY,
        "rollback": Reason.ROLLBACK,
        "fast-forward": Reason.FAST_FORWARD,
        "freeze": Reason.EXPIRED,
        "mix and match": Reason.WRONG_HASH,
        "wrong target": Reason.WRONG_SPECIFICATION,
        "extraneous files": Reason.EXTRANEOUS_FILE,
        "endless data": Reason.TOO_LARGE,
        "key loss": Reason.KEY_EXPIRED,
    }
    assert len(set(told.values())) == 9
    assert workshop.store.floor.generation == 3


def test_every_refusal_is_one_sentence(workshop: Workshop) -> None:
    """Each kind of damage, signed or not, is refused for what was done, in one line; graphs by a child that may die of them."""
    sound = workshop.offer(2)
    for kind, (mutate, reasons) in {**ON_THE_WAY, **SIGNED_AGAIN, **NEW_GRAPHS}.items():
        offer = mutate(workshop, sound, np.random.default_rng(0))
        with pytest.raises(Refused) as refused:
            examine(offer, workshop.store, workshop.trust, workshop.rules, time.time())
        assert refused.value.reason in reasons, kind
        assert "\n" not in str(refused.value)


def test_a_list_that_was_rolled_back_or_forged_is_refused(workshop: Workshop) -> None:
    """After revision 2 the list of revision 1 is refused; so is a list that another root signed."""
    write_trust(workshop.folder / "trust", trust_list(workshop.key, 2), workshop.root)
    assert reason(workshop, workshop.offer(2)) == ""
    write_trust(workshop.folder / "trust", trust_list(workshop.key, 1), workshop.root)
    with pytest.raises(Refused) as old:
        _ = workshop.trust
    assert old.value.reason == Reason.OLD_TRUST
    genuine = (workshop.folder / "trust" / "root.pub").read_bytes()
    write_trust(workshop.folder / "trust", trust_list(workshop.key, 3), Ed25519PrivateKey.generate())
    (workshop.folder / "trust" / "root.pub").write_bytes(genuine)
    with pytest.raises(Refused) as forged:
        _ = workshop.trust
    assert forged.value.reason == Reason.UNKNOWN_KEY


def test_the_process_takes_the_newest_offer_and_outlives_garbage(workshop: Workshop) -> None:
    """The real gate process refuses garbage and a stranger's offer, takes the newest of two sound ones, and says all of it."""
    store = workshop.store.folder
    leave_offer(store, b"garbage")
    options = workshop.folder / "options.json"
    options.write_bytes(msgspec.json.encode(workshop.options))
    command = [sys.executable, "-m", "poco.runtime.gate", "--options", str(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gate:
        assert gate.stdout is not None
        assert gate.stdout.readline().startswith("note generation 0 is refused (malformed): ")
        leave_offer(store, workshop.offer(2, key=Ed25519PrivateKey.generate()).pack())
        assert gate.stdout.readline().startswith("note generation 2 is refused (unknown_key): ")
        gate.send_signal(19)
        leave_offer(store, workshop.offer(3).pack())
        leave_offer(store, workshop.offer(4).pack())
        gate.send_signal(18)
        deadline_s = time.monotonic() + PATIENCE_S
        while len(verdicts := read_verdicts(store)) < 3 and time.monotonic() < deadline_s:
            time.sleep(0.02)
        gate.kill()
    assert [(verdict.generation, verdict.reason) for verdict in verdicts] == [
        (0, "malformed"),
        (2, "unknown_key"),
        (4, ""),
    ]
    assert workshop.store.pointer("offered") == workshop.store.folder / "generations" / verdicts[-1].folder


def test_generations_of_a_policy_that_sees_pass_with_their_encoder(tmp_path: Path) -> None:
    """The encoder's graph comes with the first and is never sent again; one that sees otherwise is refused."""
    workshop = Workshop(read_artifact(SEEING), tmp_path)
    for generation, offer in ((1, workshop.first()), (2, workshop.offer(2)), (3, workshop.offer(3))):
        verdict = judge(offer, workshop.store, workshop.trust, workshop.rules)
        assert (verdict.generation, verdict.reason) == (generation, ""), verdict.sentence
        stored = read_artifact(workshop.store.folder / "generations" / verdict.folder)
        assert encoder_of(stored) is not None
    golden = workshop.golden(trained := workshop.trained(4))
    golden["images"] = 255 - golden["images"].astype(np.uint8)
    assert reason(workshop, workshop.offer(4, trained=trained, golden=golden)) == Reason.GOLDEN
    del golden["images"]
    assert reason(workshop, workshop.offer(4, trained=trained, golden=golden)) == Reason.GOLDEN


def test_a_learner_publishes_what_a_robot_that_sees_takes(tmp_path: Path) -> None:
    """Generations made by the learner's own publisher pass the gate of a robot with cameras."""
    workshop = Workshop(read_artifact(SEEING), tmp_path)
    assert judge(workshop.first(), workshop.store, workshop.trust, workshop.rules).reason == ""
    publisher = Publisher(workshop.artifact, workshop.key, 3600)
    offer = publisher.publish(policy_of(workshop.artifact), 1, time.time(), {})
    verdict = judge(offer, workshop.store, workshop.trust, workshop.rules)
    assert (verdict.generation, verdict.reason) == (2, ""), verdict.sentence
