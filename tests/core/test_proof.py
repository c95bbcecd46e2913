"""One test for each check of what a candidate answers, and the damage with that check off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from tests.core.staged_histories import Journal, admitted
from tests.sdk.publisher import SHOP, Publisher, flag

from holdfast.adapters.ed25519 import verify
from holdfast.core import evaluate, trust
from holdfast.core.errors import Untrusted
from holdfast.core.lineage import rebuild
from holdfast.core.model import (
    Contract,
    Environment,
    Example,
    Need,
    PutEnvironment,
    PutSetting,
    Rule,
    Setting,
    Split,
    Subject,
    Targeting,
)
from holdfast.core.probes import PROBES_MAX, Carried, carried, write
from holdfast.core.proof import Demands, prove, replayed
from holdfast.core.snapshot import Budgets
from holdfast.core.trust import Checks, Generation
from holdfast.core.wire import canonical

BY_TENANT = {
    **flag(9, many=49),
    "targeting": {"if": [{"==": [{"var": "tenant"}, "contoso"]}, "many"]},
}
CONTOSO = {"tenant": "contoso"}


class Shop(Publisher):
    """A publisher whose snapshots carry schemas, probes and budgets."""

    def __init__(self) -> None:
        super().__init__()
        self.schemas: dict[str, Any] = {}
        self.probes: dict[str, list[Carried]] = {}
        self.shape = Budgets()
        self.put(tiles=BY_TENANT, dark_mode=False)

    def probe(self, key: str, value: Any, context: dict[str, Any] = CONTOSO) -> None:
        self.probes.setdefault(key, []).append(carried(context, canonical(value), "rule"))

    def generation(self, active: Generation | None = None) -> Generation:
        """The next one, believed and ready, not proven."""
        snapshot = self.snapshot(
            schemas={key: msgspec.Raw(canonical(each)) for key, each in self.schemas.items()},
            probes={key: write(each) for key, each in self.probes.items()},
            shape=self.shape,
        )
        bundle = self.bundle(snapshot)
        admitted = trust.admit(bundle, SHOP, active.admitted if active else None, None, verify)
        return trust.equip(admitted, {}, lambda: 0.0)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@contextmanager
def refused(code: str, key: str = "") -> Iterator[None]:
    with pytest.raises(Untrusted) as caught:
        yield
    assert (caught.value.code, caught.value.key) == (code, key)
    assert caught.value.revision > 0
    assert len(caught.value.digest) == 64


def without(check: str, contract: Contract | None = None) -> Demands:
    return Demands(contract, msgspec.structs.replace(Checks(), **{check: False}))


def answer(generation: Generation, key: str = "tiles") -> Any:
    return generation.evaluator.evaluate(key, CONTOSO).value


# -- schema


def test_a_value_that_its_schema_forbids_is_refused(shop: Shop) -> None:
    shop.schemas["tiles"] = {"type": "integer", "maximum": 48}
    candidate = shop.generation()
    with refused("schema", "tiles"):
        prove(candidate, None)
    prove(candidate, None, without("schema"))
    assert answer(candidate) == 49, "the damage with the check off"


def test_what_was_checked_in_the_active_generation_is_not_checked_again(shop: Shop) -> None:
    shop.schemas["tiles"] = {"maximum": 48}
    active = shop.generation()
    shop.put(dark_mode=True)
    prove(shop.generation(active), active)


def test_every_variant_counts_the_unused_ones_too(shop: Shop) -> None:
    shop.put(tiles=flag(9, never="nine"))
    shop.schemas["tiles"] = {"type": "integer"}
    with refused("schema", "tiles"):
        prove(shop.generation(), None)


# -- contract


def contract(**changes: Any) -> Contract:
    needs = {"tiles": Need("integer", {"minimum": 1})}
    return msgspec.structs.replace(Contract(needs), **changes)


def test_settings_that_fulfil_the_contract_are_taken(shop: Shop) -> None:
    examples = (Example(CONTOSO, {"tiles": 49}), Example({}, {"tiles": 9, "dark-mode": False}))
    prove(shop.generation(), None, Demands(contract(examples=examples)))


@pytest.mark.parametrize(
    ("broken", "key"),
    [
        (contract(needs={"missing": Need("string")}), "missing"),
        (contract(needs={"tiles": Need("string")}), "tiles"),
        (contract(needs={"tiles": Need("integer", {"maximum": 48})}), "tiles"),
        (contract(examples=(Example(CONTOSO, {"tiles": 9}),)), "tiles"),
    ],
)
def test_settings_that_break_the_contract_are_refused(
    shop: Shop, broken: Contract, key: str
) -> None:
    candidate = shop.generation()
    with refused("contract", key):
        prove(candidate, None, Demands(broken))
    prove(candidate, None, without("contract", broken))


def test_a_contract_of_another_environment_and_an_optional_key_ask_nothing(shop: Shop) -> None:
    elsewhere = contract(needs={"missing": Need("string")}, environments=("staging",))
    prove(shop.generation(), None, Demands(elsewhere))
    optional = contract(needs={"missing": Need("string", required=False)})
    prove(shop.generation(), None, Demands(optional))


def test_a_kill_switch_is_taken_whatever_the_contract_counts_on(shop: Shop) -> None:
    counted_on = contract(examples=(Example(CONTOSO, {"tiles": 49}),))
    active = shop.generation()
    prove(active, None, Demands(counted_on))
    shop.put(tiles={**flag(9), "state": "DISABLED"})
    prove(shop.generation(active), active, Demands(counted_on))


def test_an_integer_is_read_as_a_number(shop: Shop) -> None:
    prove(shop.generation(), None, Demands(contract(needs={"tiles": Need("number")})))


# -- shape


def many(shop: Shop, count: int = 20) -> Generation:
    shop.put(**{f"k{n}": n for n in range(count)})
    return shop.generation()


def test_losing_too_much_at_once_is_refused(shop: Shop) -> None:
    active = many(shop)
    shop.revision += 1
    for n in range(10):
        del shop.flags[f"k{n}"], shop.touched[f"k{n}"]
        shop.removed[f"k{n}"] = shop.revision
    candidate = shop.generation(active)
    with refused("shape"):
        prove(candidate, active)
    prove(candidate, active, without("shape"))
    assert answer(candidate, "k0") is None, "the damage with the check off: ten settings gone"


def test_what_went_one_by_one_is_not_too_much(shop: Shop) -> None:
    """A consumer that was away sees all removals at once."""
    active = many(shop)
    for n in range(10):
        shop.remove(f"k{n}")
    prove(shop.generation(active), active)


def test_changing_the_type_of_too_many_is_refused(shop: Shop) -> None:
    active = many(shop)
    shop.put(k1="text", k2="text")
    with refused("shape"):
        prove(shop.generation(active), active)


def test_growing_too_much_is_refused(shop: Shop) -> None:
    """Cloudflare 2025: a file that doubled, and then some."""
    active = many(shop)
    shop.put(k1="x" * len(active.body) * 10)
    with refused("shape"):
        prove(shop.generation(active), active)


def test_the_budgets_are_those_of_the_active_generation(shop: Shop) -> None:
    shop.shape = Budgets(lost_percent=0, settings_min=0)
    active = many(shop)
    shop.shape = Budgets()
    shop.remove("k1")
    with refused("shape"):
        prove(shop.generation(active), active)


def test_a_small_service_may_change_as_it_likes(shop: Shop) -> None:
    active = shop.generation()
    shop.remove("tiles")
    prove(shop.generation(active), active)


# -- probes


def test_probes_that_come_out_are_taken(shop: Shop) -> None:
    shop.probe("tiles", 49)
    shop.probe("tiles", 9, {})
    prove(shop.generation(), None)


def test_another_answer_than_the_publisher_meant_is_refused(shop: Shop) -> None:
    """A defect in a builder or in our own evaluator: the two disagree."""
    shop.probe("tiles", 9)
    candidate = shop.generation()
    with refused("probe", "tiles"):
        prove(candidate, None)
    prove(candidate, None, without("probes"))
    assert answer(candidate) == 49, "the damage with the check off"


def test_a_defect_of_this_consumer_s_evaluator_is_found(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.probe("tiles", 49)
    monkeypatch.setattr(
        evaluate, "compiled", lambda _root, _facts, answers, *_: lambda _context: answers.static
    )
    with refused("probe", "tiles"):
        prove(shop.generation(), None)


def test_an_error_is_no_expected_answer(shop: Shop) -> None:
    shop.put(tiles={**flag(9), "targeting": {"no_such_operator": []}})
    shop.probe("tiles", None)
    with pytest.raises(Untrusted):
        replayed(shop.generation())


def test_a_long_value_is_compared_by_its_digest(shop: Shop) -> None:
    shop.put(tiles=flag({"text": "x" * 2_000}))
    shop.probe("tiles", {"text": "x" * 2_000})
    assert b"digest" in bytes(write(shop.probes["tiles"]))
    replayed(shop.generation())
    shop.put(tiles=flag({"text": "y" * 2_000}))
    with pytest.raises(Untrusted):
        replayed(shop.generation())


def test_true_is_not_one(shop: Shop) -> None:
    shop.probe("dark-mode", 0)
    with refused("probe", "dark-mode"):
        prove(shop.generation(), None)


def test_too_many_probes_are_refused(shop: Shop) -> None:
    shop.probes["tiles"] = [carried({"n": n}, b"9", "rule") for n in range(PROBES_MAX + 1)]
    with refused("limits"):
        prove(shop.generation(), None)


def test_damaged_probes_are_refused(shop: Shop) -> None:
    bundle = shop.bundle(shop.snapshot(probes={"tiles": msgspec.Raw(b'[{"context":9}]')}))
    generation = trust.equip(trust.admit(bundle, SHOP, None, None, verify), {}, lambda: 0.0)
    with refused("shape", "tiles"):
        prove(generation, None)


def test_probes_of_what_is_not_there_are_refused(shop: Shop) -> None:
    bundle = shop.bundle(shop.snapshot(probes={"missing": msgspec.Raw(b"[]")}))
    with refused("keys"):
        trust.admit(bundle, SHOP, None, None, verify)


# -- unexplained


def test_an_old_probe_that_answers_otherwise_unexplained_is_refused(shop: Shop) -> None:
    """The builder changed a flag and its probes with it; no entry of the journal says why."""
    shop.probe("tiles", 49)
    active = shop.generation()
    shop.put(dark_mode=True)
    shop.flags["tiles"] = {**BY_TENANT, "defaultVariant": "many", "targeting": {}}
    shop.probes = {}
    shop.flags["tiles"]["variants"] = {"here": 9, "many": 50}
    candidate = _believed(shop, active)
    with refused("unexplained", "tiles"):
        prove(candidate, active)
    prove(candidate, active, without("unexplained"))
    assert answer(candidate) == 50, "the damage with the check off"


def test_an_old_probe_may_move_where_an_entry_says_so(shop: Shop) -> None:
    shop.probe("tiles", 49)
    active = shop.generation()
    shop.put(tiles=flag(50))
    shop.probes = {}
    prove(shop.generation(active), active)


def test_a_new_build_can_not_re_teach_what_the_old_one_said(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own evaluator may have changed too: what counts is what the active generation carried."""
    shop.probe("tiles", 49)
    active = shop.generation()
    shop.put(dark_mode=True)
    shop.probes = {}
    monkeypatch.setattr(
        evaluate, "compiled", lambda _root, _facts, answers, *_: lambda _context: answers.static
    )
    old = trust.equip(active.admitted, {}, lambda: 0.0)
    with refused("unexplained", "tiles"):
        prove(shop.generation(active), old)


def _believed(shop: Shop, active: Generation) -> Generation:
    """As if the byte-wise check of `trust` had a hole there."""
    admitted = trust.admit(
        shop.publish(), SHOP, active.admitted, None, verify, checks=Checks(succession=False)
    )
    return trust.equip(admitted, {}, lambda: 0.0)


def test_work_is_done_in_slices(shop: Shop) -> None:
    shop.probe("tiles", 49)
    shop.probe("dark-mode", False)
    pauses: list[None] = []
    active = shop.generation()
    prove(active, None, Demands(pause=lambda: pauses.append(None)))
    assert len(pauses) == 2
    pauses.clear()
    shop.put(tiles=flag(9, many=49), dark_mode=True)
    prove(
        shop.generation(active),
        active,
        Demands(checks=Checks(probes=False, unexplained=False), pause=lambda: pauses.append(None)),
    )
    assert len(pauses) == 2, "one for each setting that is another one"


def test_what_was_in_use_is_ready_and_nothing_else_is_kept(shop: Shop) -> None:
    shop.put(tiles=BY_TENANT, rooms=BY_TENANT)
    shop.probe("tiles", 49)
    shop.probe("rooms", 49)
    active = shop.generation()
    prove(active, None)
    assert not active.evaluator.table
    assert answer(active) == 49
    shop.put(dark_mode=True)
    candidate = shop.generation(active)
    prove(candidate, active)
    assert [*candidate.evaluator.table] == ["tiles"]
    assert [*active.evaluator.table] == ["tiles"]
    assert answer(candidate, "rooms") == 49


def test_what_the_contract_has_examples_of_is_ready(shop: Shop) -> None:
    shop.put(tiles=BY_TENANT, rooms=BY_TENANT)
    shop.probe("rooms", 49)
    first = shop.generation()
    prove(first, None, Demands(contract(examples=(Example(CONTOSO, {"tiles": 49}),))))
    assert [*first.evaluator.table] == ["tiles"]


def test_who_goes_back_to_bucketing_v2_means_that_it_splits_by_texts_alone() -> None:
    rules = tuple(Rule(split=Split({"few": 1, "many": 1}, by)) for by in ("targetingKey", "tenant"))
    setting = Setting("integer", {"few": 1, "many": 3}, {"staging": Targeting("few", rules=rules)})
    journal, beta = Journal(), Subject("staging", "beta")
    assert journal.act([PutSetting("beta", "a", setting)])
    active = admitted(rebuild(journal.standing, beta), beta, None)
    assert journal.commit([PutEnvironment("staging", Environment(bucketing="v2"))])
    candidate = admitted(journal.steps[-1].bodies[beta], beta, active)
    prove(*(trust.equip(one, {}, lambda: 0.0) for one in (candidate, active)))
