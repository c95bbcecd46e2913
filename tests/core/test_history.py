"""The journal's meaning, example by example: sealing, folding, what touches what."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.core.errors import Damaged, Invalid
from holdfast.core.history import (
    EMPTY,
    State,
    closure,
    decode_entry,
    decode_link,
    decode_state,
    encode_entry,
    encode_state,
    fold,
    fold_all,
    revert,
    seal,
    verify_link,
)
from holdfast.core.model import (
    GENESIS,
    Audience,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    DeleteToken,
    Edit,
    Entry,
    Environment,
    Head,
    PutEnvironment,
    PutRoot,
    PutSegment,
    PutService,
    PutSetting,
    PutToken,
    Scope,
    Segment,
    Service,
    Setting,
    Targeting,
    Token,
)


def setting(value: object = 9, *environments: str, default: str = "few") -> Setting:
    where = environments or ("production",)
    targeting = {name: Targeting(default=default) for name in where}
    return Setting(type="integer", variants={"few": value, "many": 49}, environments=targeting)


def after(state: State, *edits: Edit) -> State:
    entry = seal(state.head, 1_700_000_000_000, "ann", "why", edits)
    return fold(state, entry)


def chain(*changes: tuple[Edit, ...]) -> list[Entry]:
    head, entries = GENESIS, []
    for edits in changes:
        entries.append(seal(head, 1, "ann", "why", edits))
        head = Head(entries[-1].revision, entries[-1].hash)
    return entries


SHOP = after(
    EMPTY,
    PutEnvironment("production", Environment()),
    PutEnvironment("staging", Environment()),
    PutService("shop", Service()),
    PutSetting("shop", "tiles", setting(9, "production", "staging")),
)


class TestSealing:
    def test_an_entry_follows_its_head_and_carries_its_own_hash(self) -> None:
        first, second = chain((DeleteSetting("a", "b"),), (DeleteSetting("a", "c"),))
        assert (first.revision, first.previous) == (1, GENESIS.hash)
        assert (second.revision, second.previous) == (2, first.hash)
        verify_link(GENESIS, first)
        verify_link(Head(1, first.hash), second)

    def test_a_sealed_entry_is_what_reading_its_bytes_gives(self) -> None:
        entry = seal(GENESIS, 1, "ann", "", [PutSetting("shop", "ratio", setting(1.0))])
        assert decode_entry(encode_entry(entry), entry.hash) == entry
        edit = entry.edits[0]
        assert isinstance(edit, PutSetting)
        assert type(edit.to.variants["few"]) is int

    def test_what_a_request_is_known_by_stands_under_the_hash_and_else_takes_no_byte(self) -> None:
        plain = seal(GENESIS, 1, "ann", "why", [DeleteSetting("a", "b")])
        known = seal(GENESIS, 1, "ann", "why", [DeleteSetting("a", "b")], None, "ab" * 32)
        assert b"attempt" not in encode_entry(plain)
        assert plain.hash != known.hash
        assert decode_entry(encode_entry(known), known.hash).attempt == "ab" * 32

    @pytest.mark.parametrize("attempt", ["ab" * 31, "AB" * 32, "ab" * 32 + "\n", "x" * 100_000])
    def test_what_a_request_is_known_by_is_a_digest_and_no_more(self, attempt: str) -> None:
        with pytest.raises(Damaged):
            seal(GENESIS, 1, "ann", "why", [DeleteSetting("a", "b")], None, attempt)

    @pytest.mark.parametrize(
        "field", ["revision", "at_ms", "actor", "reason", "edits", "previous", "attempt"]
    )
    def test_no_field_can_change_under_a_hash(self, field: str) -> None:
        entry = chain((DeleteSetting("a", "b"),))[0]
        other = {
            "revision": 2, "at_ms": 2, "actor": "eve", "reason": "", "edits": (), "previous": "1",
            "attempt": "ab" * 32,
        }[field]  # fmt: skip
        forged = msgspec.structs.replace(entry, **{field: other})
        with pytest.raises(Damaged):
            verify_link(GENESIS, forged)

    def test_an_entry_of_another_place_is_refused(self) -> None:
        first, second = chain((DeleteSetting("a", "b"),), (DeleteSetting("a", "c"),))
        for previous, entry in (
            (GENESIS, second),
            (Head(1, "0" * 64), second),
            (Head(7, ""), first),
        ):
            with pytest.raises(Damaged):
                verify_link(previous, entry)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, "\ud800"])
    def test_what_has_no_canonical_bytes_is_the_authors_problem(self, value: object) -> None:
        with pytest.raises(Invalid):
            seal(GENESIS, 1, "ann", "", [PutSetting("shop", "tiles", setting(value))])

    def test_bytes_are_read_only_under_their_hash(self) -> None:
        entry = chain((DeleteSetting("a", "b"),))[0]
        body = encode_entry(entry)
        for read in (decode_entry, decode_link):
            with pytest.raises(Damaged):
                read(body.replace(b"ann", b"eve"), entry.hash)
            with pytest.raises(Damaged):
                read(body[:-1], entry.hash)


class TestTouching:
    def test_a_new_setting_touches_its_environments_only(self) -> None:
        state = after(SHOP, PutSetting("shop", "banner", setting(1, "staging")))
        assert state.services["shop"].touched == {"production": 1, "staging": 2}
        assert state.services["shop"].settings["banner"].revisions == {"staging": 2}

    def test_targeting_touches_its_own_environment(self) -> None:
        edited = setting(9, "production", "staging")
        edited.environments["staging"] = Targeting(default="many")
        state = after(SHOP, PutSetting("shop", "tiles", edited))
        assert state.services["shop"].settings["tiles"].revisions == {"production": 1, "staging": 2}

    @pytest.mark.parametrize(
        "change",
        [
            {"variants": {"few": 8, "many": 49}},
            {"type": "number"},
            {"schema": {"maximum": 49}},
            {"metadata": {"team": "calling"}},
        ],
    )
    def test_what_belongs_to_all_environments_touches_all(self, change: dict[str, object]) -> None:
        edited = msgspec.structs.replace(setting(9, "production", "staging"), **change)
        state = after(SHOP, PutSetting("shop", "tiles", edited))
        assert state.services["shop"].touched == {"production": 2, "staging": 2}

    @pytest.mark.parametrize("change", [{"description": "more"}, {"expires": "2027-01-01"}, {}])
    def test_what_moves_no_answer_touches_nothing(self, change: dict[str, object]) -> None:
        edited = msgspec.structs.replace(setting(9, "production", "staging"), **change)
        state = after(SHOP, PutSetting("shop", "tiles", edited))
        assert state.services["shop"].touched == {"production": 1, "staging": 1}
        assert state.services["shop"].settings["tiles"].setting == edited

    def test_true_is_not_one(self) -> None:
        one = after(SHOP, PutSetting("shop", "object", setting({"on": 1})))
        true = after(one, PutSetting("shop", "object", setting({"on": True})))
        assert true.services["shop"].settings["object"].revisions == {"production": 3}

    def test_an_entry_counts_as_a_whole(self) -> None:
        state = after(
            SHOP,
            DeleteSetting("shop", "tiles"),
            PutSetting("shop", "tiles", setting(9, "production", "staging")),
        )
        assert state.services == SHOP.services

    def test_an_environment_moves_with_its_bucketing_alone(self) -> None:
        described = after(SHOP, PutEnvironment("staging", Environment(description="for us")))
        moved = after(described, PutEnvironment("staging", Environment(bucketing="v2")))
        assert described.environments["staging"].revision == 1
        assert moved.environments["staging"].revision == 3

    def test_a_token_touches_the_access_of_its_scopes(self) -> None:
        token = Token("ci", "ab" * 32, (Scope(("read",), "staging"), Scope(("read",))))
        state = after(SHOP, PutToken("t1", token))
        again = after(state, PutToken("t1", token))
        gone = after(again, DeleteToken("t1"))
        assert state.access == again.access == {"staging": 2, "*": 2}
        assert gone.access == {"staging": 4, "*": 4}
        assert gone.tokens == {}

    def test_roots_are_kept_in_order(self) -> None:
        state = after(SHOP, PutRoot(1, {"payload": "a"}), PutRoot(2, {"payload": "b"}))
        assert state.roots == ({"payload": "a"}, {"payload": "b"})


class TestSegments:
    PILOT = Segment(Audience(by="tenant", members=("a",)))

    def test_a_segment_touches_every_environment_without_an_override(self) -> None:
        state = after(SHOP, PutSegment("shop", "pilot", self.PILOT))
        own = msgspec.structs.replace(
            self.PILOT,
            audience=Audience(by="tenant", members=("a", "b")),
            environments={"staging": Audience(by="tenant", members=("a",))},
        )
        state = after(state, PutSegment("shop", "pilot", own))
        assert state.services["shop"].segments["pilot"].revisions == {"production": 3, "staging": 2}
        assert state.services["shop"].touched == {"production": 3, "staging": 2}

    def test_a_deleted_segment_touches_where_it_stood(self) -> None:
        state = after(SHOP, PutSegment("shop", "pilot", self.PILOT))
        state = after(state, DeleteSegment("shop", "pilot"))
        assert state.services["shop"].segments == {}
        assert state.services["shop"].touched == {"production": 3, "staging": 3}


class TestRemoval:
    def test_a_deleted_setting_leaves_a_tombstone_until_it_is_back(self) -> None:
        gone = after(SHOP, DeleteSetting("shop", "tiles"))
        back = after(gone, PutSetting("shop", "tiles", setting(9)))
        assert gone.services["shop"].removed == {
            "production": {"tiles": 2},
            "staging": {"tiles": 2},
        }
        assert back.services["shop"].removed == {"production": {}, "staging": {"tiles": 2}}

    def test_leaving_one_environment_is_a_removal_there(self) -> None:
        state = after(SHOP, PutSetting("shop", "tiles", setting(9)))
        assert state.services["shop"].removed == {"staging": {"tiles": 2}}
        assert state.services["shop"].touched == {"production": 1, "staging": 2}

    def test_a_service_made_again_goes_on_from_its_tombstones(self) -> None:
        gone = after(SHOP, DeleteService("shop"))
        assert "shop" not in gone.services
        back = after(gone, PutService("shop", Service()))
        assert back.services["shop"].removed == {
            "production": {"tiles": 2},
            "staging": {"tiles": 2},
        }
        assert back.services["shop"].touched == {"production": 3, "staging": 3}
        assert back.gone == {}

    @pytest.mark.parametrize(
        "edit", [DeleteSetting("no", "x"), DeleteSegment("no", "x"), DeleteService("no"),
                 DeleteSetting("shop", "x"), DeleteToken("no")],
    )  # fmt: skip
    def test_deleting_what_is_not_there_changes_nothing(self, edit: Edit) -> None:
        state = after(SHOP, edit)
        assert msgspec.structs.replace(state, head=SHOP.head) == SHOP


class TestIncludes:
    SHARED = after(
        SHOP,
        PutService("shared", Service()),
        PutSetting("shared", "tiles", setting(1)),
        PutSetting("shared", "theme", setting(1)),
    )

    def test_an_include_touches_what_it_reaches_and_knows_since_when(self) -> None:
        state = after(self.SHARED, PutService("shop", Service(includes=("shared",))))
        assert state.services["shop"].included_at == {"shared": 3}
        assert state.services["shop"].touched == {"production": 3, "staging": 3}
        assert state.services["shared"].touched == {"production": 2}

    def test_order_of_edits_does_not_matter_to_an_include(self) -> None:
        edits = (
            PutService("mail", Service(includes=("rings",))),
            PutService("rings", Service()),
            PutSetting("rings", "ring", setting(1)),
        )
        forwards, backwards = after(SHOP, *edits), after(SHOP, *reversed(edits))
        assert forwards.services == backwards.services
        assert forwards.services["mail"].touched == {"production": 2}

    def test_dropping_an_include_buries_what_went_with_it(self) -> None:
        held = after(self.SHARED, PutService("shop", Service(includes=("shared",))))
        less = after(held, DeleteSetting("shared", "theme"))
        state = after(less, PutService("shop", Service()))
        assert state.services["shop"].removed == {"production": {"theme": 4}}
        assert state.services["shop"].included_at == {}

    def test_another_order_of_includes_counts_as_anew(self) -> None:
        both = after(self.SHARED, PutService("mail", Service(includes=("shared", "shop"))))
        turned = after(both, PutService("mail", Service(includes=("shop", "shared"))))
        assert turned.services["mail"].included_at == {"shared": 4, "shop": 4}
        assert turned.services["mail"].removed == {"production": {"tiles": 4}}

    def test_a_closure_is_depth_first_and_ends_on_cycles(self) -> None:
        state = after(
            EMPTY,
            PutService("a", Service(includes=("b", "c"))),
            PutService("b", Service(includes=("d", "a"))),
            PutService("c", Service(includes=("d", "missing"))),
            PutService("d", Service()),
        )
        assert closure(state.services, "a") == ("a", "b", "d", "c")
        assert closure(state.services, "missing") == ()


class TestCheckpoints:
    def test_a_state_comes_back_as_it_was(self) -> None:
        assert decode_state(encode_state(SHOP)) == SHOP
        assert encode_state(decode_state(encode_state(SHOP))) == encode_state(SHOP)

    @pytest.mark.parametrize(
        "body",
        [b"", b"{}", b"\xff", encode_state(SHOP)[:-1], encode_state(SHOP).replace(b".v1", b".v9")],
    )
    def test_other_bytes_are_damage(self, body: bytes) -> None:
        with pytest.raises(Damaged):
            decode_state(body)


def test_a_batch_folds_to_the_same_state_as_its_entries_one_by_one() -> None:
    changes = [(PutSetting("shop", f"k{n % 7}", setting(n)),) for n in range(40)]
    changes += [(DeleteService("shop"),), (PutService("shop", Service()),), changes[0]]
    entries = chain(*changes)
    state = EMPTY
    for entry in entries:
        state = fold(state, entry)
    assert fold_all(EMPTY, entries) == state


def test_folding_leaves_the_old_state_as_it_was() -> None:
    before = encode_state(SHOP)
    after(SHOP, DeleteService("shop"), PutSetting("mail", "x", setting()))
    after(SHOP, PutSetting("shop", "tiles", setting(1)), DeleteSetting("shop", "tiles"))
    assert encode_state(SHOP) == before


def test_a_fold_shares_all_that_it_does_not_change() -> None:
    many = after(
        SHOP, *(PutSetting("mail", f"k{number}", setting(number)) for number in range(100))
    )
    state = after(many, PutSetting("mail", "k7", setting(-1)))

    assert state.services["shop"] is many.services["shop"]
    kept, found = many.services["mail"].settings, state.services["mail"].settings
    assert [key for key in kept if found[key] is not kept[key]] == ["k7"]


def test_undoing_a_service_does_not_take_a_newer_segment_that_is_named_like_its_setting() -> None:
    after_it = after(EMPTY, PutService("shop", Service()), PutSetting("shop", "a", setting()))
    pilots = Segment(Audience(by="tenant", members=("contoso",)))
    head = after(after_it, PutSegment("shop", "a", pilots))

    assert [one.code for one in revert(EMPTY, after_it, head).problems] == ["changed-since"]


def test_undoing_a_deletion_does_not_bring_a_service_back_that_went_since() -> None:
    start = after(EMPTY, PutService("shop", Service()), PutSetting("shop", "a", setting()))
    after_it = after(start, DeleteSetting("shop", "a"))
    head = after(after_it, DeleteService("shop"))

    assert [one.code for one in revert(start, after_it, head).problems] == ["changed-since"]
