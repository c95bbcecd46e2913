"""A push comes home: what edges took while the journal was out of reach is brought into it.

The very entry is appended where nobody wrote meanwhile: then all that was handed out is this
journal's own. Where somebody did, two histories meet. The overrides are then put anew on the head
as it is, every setting of their subjects counts as touched, and the new revisions are above those
that consumers hold: each of them goes on, and nobody back.
"""

from __future__ import annotations

import msgspec

from holdfast.core.authority import Rights
from holdfast.core.errors import Conflict, Unavailable
from holdfast.core.model import Change, Edit, Entry, Override, PutOverride, Subject, TouchSubject
from holdfast.core.pushes import Taken
from holdfast.engine.judgement import AUTOMATION
from holdfast.engine.publish import Committed, Publisher
from holdfast.engine.views import View


class Home(msgspec.Struct, frozen=True):
    """Where a push came in. `met`: two histories did, and it is an entry of another revision."""

    revision: int
    hash: str
    met: bool = False


class PushDoor:
    """The journal's side of pushes, on the one write door. Belongs to the writer thread."""

    def __init__(self, publisher: Publisher, view: View) -> None:
        self._publisher = publisher
        self._view = view

    def bring(self, taken: Taken, actor: str, rights: Rights) -> Home:
        """Bring a push in; one that is in already changes nothing.

        Raises `Unavailable` where this journal lacks what the push was made on, and otherwise as
        `Publisher.commit`.
        """
        entry = taken.entry
        try:
            made = self._publisher.adopt(entry, rights, taken.digests)
        except Conflict as error:
            if error.actual_revision < entry.revision - 1:
                raise Unavailable(
                    f"this journal ends at revision {error.actual_revision}, and the push "
                    f"was made on {entry.revision - 1}: restore a newer copy of the journal first"
                ) from None
            return self._meet(entry, sorted(taken.digests), actor, rights)
        return Home(made.revision, made.hash)

    def lift(self, where: Subject, key: str, reason: str, actor: str, rights: Rights) -> Committed:
        """Take what stands over a setting away. Raises `Invalid` while that would move answers."""
        edit = PutOverride(where.environment, where.service, key, None)
        return self._publisher.commit(Change((edit,), reason), actor, rights)

    def _meet(self, entry: Entry, subjects: list[Subject], actor: str, rights: Rights) -> Home:
        reason = f"pushed offline as revision {entry.revision} by {entry.actor}: {entry.reason}"
        if not self._stands(entry):
            touch = tuple(TouchSubject(one.environment, one.service) for one in subjects)
            # A consumer holds another snapshot of that revision: what it takes next follows none
            # of that number.
            while any(self._revision(one) <= entry.revision for one in subjects):
                self._commit(touch, reason, actor, rights)
            puts = (edit for edit in entry.edits if isinstance(edit, PutOverride))
            self._commit((*touch, *puts), reason, actor, rights)
        head = self._view.state.head
        return Home(head.revision, head.hash, met=True)

    def _commit(self, edits: tuple[Edit, ...], reason: str, actor: str, rights: Rights) -> None:
        self._publisher.commit(Change(edits, reason), actor, rights, AUTOMATION)

    def _revision(self, subject: Subject) -> int:
        lineage = self._view.standing.lineages.get(subject)
        return lineage.revision if lineage else 0

    def _stands(self, entry: Entry) -> bool:
        """Whether all of it stands over its settings already: it was brought before."""
        overrides = self._view.state.overrides
        for edit in entry.edits:
            if isinstance(edit, PutOverride):
                over = overrides.get(f"{edit.environment}/{edit.service}")
                there = over.keys.get(edit.key) if over else None
                if there is None or edit.to != Override(there.flag):
                    return False
        return True
