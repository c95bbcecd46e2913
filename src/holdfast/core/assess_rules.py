"""The rules of `holdfast assess`, as data; `docs/reference/assess.md` is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from holdfast.core.assess import Facts, Found, Rule, TokenFacts
from holdfast.core.limits import ROOTS_MAX
from holdfast.core.model import Setting
from holdfast.core.secret_shapes import suspects

EVERY: Final = "*"
BACKUP_S: Final = 86_400.0
"""The oldest that the newest backup may be."""
LONG_TOKEN_S: Final = 366 * 86_400.0
BREAK_GLASS_S_MAX: Final = 3_600
BEHIND_S: Final = 600.0
"""How long a consumer may be known and still run another revision than the newest."""
ROOTS_LEFT_MIN: Final = 8


def _approvals(facts: Facts) -> Iterator[Found]:
    for name, policy in facts.production_policies():
        if policy.approvals < 1:
            yield Found(name, "one person alone can change it")


def _rollout(facts: Facts) -> Iterator[Found]:
    for name, policy in facts.production_policies():
        if policy.rollout is None or len(policy.rollout.stages) < 2:
            yield Found(name, "changes reach everybody at once")


def _fast(facts: Facts) -> Iterator[Found]:
    for name, policy in facts.production_policies():
        if policy.fast is None or len(policy.fast.stages) < 2:
            yield Found(name, "kill switches and deletions reach everybody at once")


def _gates(facts: Facts) -> Iterator[Found]:
    for name, policy in facts.production_policies():
        if policy.rollout is not None and not policy.rollout.gates.silence_s:
            yield Found(name, "a rollout goes on when nobody tells how it goes")


def _deletion(facts: Facts) -> Iterator[Found]:
    for name, policy in facts.production_policies():
        if policy.deletion_percent > 50:
            yield Found(name, f"{policy.deletion_percent:g} % may be deleted by one person")


def _compatibility(facts: Facts) -> Iterator[Found]:
    for name, policy in facts.production_policies():
        if not policy.compatibility.startswith("FULL"):
            yield Found(name, f"compatibility is {policy.compatibility}")


def _caps(facts: Facts) -> Iterator[Found]:
    for name, policy in facts.production_policies():
        if not policy.settings_max:
            yield Found(name, "one change may touch any number of settings")


def _long_glass(facts: Facts) -> Iterator[Found]:
    for name, policy in sorted((facts.environments or {}).items()):
        if policy.break_glass_s > BREAK_GLASS_S_MAX:
            yield Found(name, f"break-glass lasts {policy.break_glass_s} s")


def _glass(facts: Facts) -> Iterator[Found]:
    for one in facts.broken_glass or ():
        yield Found(one.environment, f"by {one.actor} at revision {one.revision}: {one.reason}")


def _rights(token: TokenFacts, verb: str) -> bool:
    return any(
        verb in scope.verbs and scope.environment == EVERY and scope.service == EVERY
        for scope in token.scopes
    )


def _admins(facts: Facts) -> Iterator[Found]:
    admins = [one for one in facts.tokens or () if _rights(one, "admin")]
    for token in admins[1:] if len(admins) > 1 else ():
        yield Found(f"{token.name} ({token.id})", "may do anything, everywhere")


def _admin_no_expiry(facts: Facts) -> Iterator[Found]:
    for token in facts.tokens or ():
        if not token.expires_s and any("admin" in scope.verbs for scope in token.scopes):
            yield Found(f"{token.name} ({token.id})", "an admin token that never expires")


def _no_expiry(facts: Facts) -> Iterator[Found]:
    for token in facts.tokens or ():
        admin = any("admin" in scope.verbs for scope in token.scopes)
        if not admin and not token.expires_s:
            yield Found(f"{token.name} ({token.id})", "never expires")
        elif token.expires_s - facts.now_s > LONG_TOKEN_S:
            yield Found(f"{token.name} ({token.id})", "lives for more than a year")


def _write_everywhere(facts: Facts) -> Iterator[Found]:
    for token in facts.tokens or ():
        if _rights(token, "write") and not _rights(token, "admin"):
            yield Found(f"{token.name} ({token.id})", "may write every service everywhere")


def _expired_tokens(facts: Facts) -> Iterator[Found]:
    for token in facts.tokens or ():
        if token.expires_s and token.expires_s < facts.now_s:
            yield Found(f"{token.name} ({token.id})", "has expired and is still listed")


def _development(facts: Facts) -> Iterator[Found]:
    if facts.root is not None and facts.root.development:
        names = [name for name, _ in facts.production_policies()]
        yield Found(facts.server, f"signs {', '.join(names) or 'everything'} with development keys")


def _one_key(facts: Facts) -> Iterator[Found]:
    if facts.root is None or facts.environments is None or len(facts.environments) < 2:
        return
    for name, key in sorted(facts.root.keys.items()):
        signs = set(key.environments) & facts.environments.keys()
        if EVERY in key.environments or (len(signs) > 1 and any(map(facts.in_production, signs))):
            yield Found(f"key {name}", "signs for production and for others")


def _roots_end(facts: Facts) -> Iterator[Found]:
    if facts.root is not None and facts.root.version > ROOTS_MAX - ROOTS_LEFT_MIN:
        yield Found(f"root version {facts.root.version}", f"the chain ends at {ROOTS_MAX}")


def _root_key(facts: Facts) -> Iterator[Found]:
    if facts.local is not None and facts.local.root_key_here:
        yield Found(facts.local.data_dir, "root.key lies beside the keys that it signs in")


def _open_paths(facts: Facts) -> Iterator[Found]:
    if facts.local is not None:
        for path in facts.local.open_paths:
            yield Found(path, "others than its owner can read or write it")


def _backup(facts: Facts) -> Iterator[Found]:
    local = facts.local
    if local is None:
        return
    if not local.backup_named:
        yield Found(local.data_dir, "no backup was named (--backup PATH)")
    elif local.backup_s is None:
        yield Found(local.data_dir, "the backup that was named is not there")
    elif facts.now_s - local.backup_s > BACKUP_S:
        hours = (facts.now_s - local.backup_s) / 3_600
        yield Found(local.data_dir, f"the newest backup is {hours:.0f} h old")


def _head_file(facts: Facts) -> Iterator[Found]:
    if facts.local is not None and not facts.local.head_witness:
        yield Found(facts.local.data_dir, "journal.db-head is missing")


def _owners(facts: Facts) -> Iterator[Found]:
    for name, service in sorted((facts.services or {}).items()):
        if not service.info.owners:
            yield Found(name, "nobody answers for it")


def _schemas(facts: Facts) -> Iterator[Found]:
    for service, key, setting in facts.settings():
        if setting.schema is None and setting.type != "boolean" and _produces(facts, setting):
            yield Found(f"{service}/{key}", f"any {setting.type} can be put there")


def _produces(facts: Facts, setting: Setting) -> bool:
    return any(map(facts.in_production, setting.environments))


def _contracts(facts: Facts) -> Iterator[Found]:
    for name, service in sorted((facts.services or {}).items()):
        live = any(_produces(facts, setting) for setting in service.settings.values())
        if live and not service.contracts:
            yield Found(name, "no consumer has said what it needs")


def _expired_settings(facts: Facts) -> Iterator[Found]:
    today = datetime.fromtimestamp(facts.now_s, UTC).date().isoformat()
    for service, key, setting in facts.settings():
        if setting.expires and setting.expires < today:
            yield Found(f"{service}/{key}", f"should have gone by {setting.expires}")


def _secrets(facts: Facts) -> Iterator[Found]:
    for service, key, setting in facts.settings():
        for name, value in sorted(setting.variants.items()):
            for suspect in suspects(value, (key,)):
                place = "/".join(map(str, (name, *suspect.path)))
                yield Found(f"{service}/{key}, variant {place}", f"looks like {suspect.what}")
                break


def _no_consumers(facts: Facts) -> Iterator[Found]:
    if not facts.consumers:
        yield Found(facts.server, "no consumer reports: rollouts can't see how they go")


def _stale(facts: Facts) -> Iterator[Found]:
    for one in facts.consumers or ():
        if one.stale:
            where = f"{one.kind} {one.consumer[:16]} of {one.environment}/{one.service}"
            yield Found(where, f"can't say that revision {one.revision} is the newest")


def _silent(facts: Facts) -> Iterator[Found]:
    for one in facts.consumers or ():
        if one.silent:
            where = f"{one.kind} {one.consumer[:16]} of {one.environment}/{one.service}"
            yield Found(where, f"last heard of {one.age_s:.0f} s ago")


def _behind(facts: Facts) -> Iterator[Found]:
    for one in facts.consumers or ():
        if one.behind and not one.silent and one.known_s > BEHIND_S:
            where = f"{one.kind} {one.consumer[:16]} of {one.environment}/{one.service}"
            yield Found(where, f"runs revision {one.revision}")


def _refusing(facts: Facts) -> Iterator[Found]:
    for one in facts.consumers or ():
        for refusal in one.refusals[-1:]:
            where = f"{one.kind} {one.consumer[:16]} of {one.environment}/{one.service}"
            yield Found(where, f"refused revision {refusal.revision}: {refusal.code}")


def _crashing(facts: Facts) -> Iterator[Found]:
    for one in facts.consumers or ():
        if one.crashes:
            where = f"{one.kind} {one.consumer[:16]} of {one.environment}/{one.service}"
            yield Found(where, f"went back {one.crashes} times after crashes")


def _old_builds(facts: Facts) -> Iterator[Found]:
    for one in facts.consumers or ():
        if _version(one.build) < _version(facts.build):
            where = f"{one.kind} {one.consumer[:16]} of {one.environment}/{one.service}"
            yield Found(where, f"runs {one.build}, the control plane {facts.build}")


def _version(build: str) -> tuple[int, ...]:
    """The numbers of `holdfast/1.2.3`; patch releases are alike."""
    numbers = build.rpartition("/")[2].split(".")[:2]
    return tuple(int(one) for one in numbers if one.isdecimal())


def _witnesses(facts: Facts) -> Iterator[Found]:
    if not any(one.witnesses for one in facts.consumers or ()):
        yield Found(facts.server, "no consumer has told a journal head that it saw signed")


def _rewritten(facts: Facts) -> Iterator[Found]:
    for message in facts.rewritten or ():
        yield Found(facts.server, message)


def _not_ready(facts: Facts) -> Iterator[Found]:
    if facts.ready:
        yield Found(facts.server, facts.ready)


def _open_reads(facts: Facts) -> Iterator[Found]:
    if facts.open_reads:
        yield Found(facts.server, "answers without a token")


def _plain(facts: Facts) -> Iterator[Found]:
    if not facts.encrypted and not facts.loopback:
        yield Found(facts.server, "tokens travel unencrypted")


_POLICY: Final = "holdfast policy set ENVIRONMENT --standard, or edit one: holdfast policy edit"
_FLEET: Final = "look at it with holdfast fleet; its own log and last_error say more"

RULES: Final = (
    Rule(
        "approvals", "high", "Changes to production take a second person",
        "One mistake, or one stolen token, changes what everybody gets.",
        _POLICY, "environments", _approvals,
    ),
    Rule(
        "rollout", "high", "Changes to production go out in stages",
        "What goes everywhere at once breaks everything at once.",
        _POLICY, "environments", _rollout,
    ),
    Rule(
        "fast-rollout", "medium", "Kill switches go ring by ring too",
        "A kill switch that meets a case it never met is an outage of its own.",
        _POLICY, "environments", _fast,
    ),
    Rule(
        "silence-gate", "medium", "A rollout halts when telemetry is silent",
        "No news is what a broken consumer sends.",
        "set gates.silence_s in policy.rollout (holdfast policy edit)", "environments", _gates,
    ),
    Rule(
        "deletion", "medium", "Deleting much takes a second person",
        "A script with a valid token has deleted hundreds of customers' sites.",
        "set deletion_percent to 5 (holdfast policy edit)", "environments", _deletion,
    ),
    Rule(
        "compatibility", "medium", "Schemas stay readable for all who run",
        "A fleet is never of one version: old and new must read each other's values.",
        "set compatibility to FULL_TRANSITIVE (holdfast policy edit)",
        "environments", _compatibility,
    ),
    Rule(
        "change-size", "low", "A change has a cap on its settings",
        "What touches everything can't be looked through.",
        "set settings_max (holdfast policy edit)", "environments", _caps,
    ),
    Rule(
        "break-glass-length", "medium", "Break-glass ends within the hour",
        "An exception that lasts becomes the rule.",
        "set break_glass_s to 3600 or less (holdfast policy edit)", "environments", _long_glass,
    ),
    Rule(
        "break-glass-open", "medium", "No glass is broken now",
        "Approval and waiting are being skipped.",
        "look at what was done, and review it afterwards: GET /v1/break-glass",
        "broken_glass", _glass,
    ),
    Rule(
        "token-admin", "medium", "One token may do everything, not several",
        "Each is a way around every other rule.",
        "give narrower scopes: holdfast token create NAME --verb … --environment … --service …, "
        "then holdfast token revoke the wide one",
        "tokens", _admins,
    ),
    Rule(
        "token-admin-expiry", "high", "Admin tokens expire",
        "A token that was lost years ago still opens the door.",
        "issue one with --expires, hand it out, revoke the old one", "tokens", _admin_no_expiry,
    ),
    Rule(
        "token-expiry", "low", "Tokens expire within a year",
        "Nobody remembers who has a token that never ends.",
        "issue one with --expires, hand it out, revoke the old one", "tokens", _no_expiry,
    ),
    Rule(
        "token-write-everywhere", "medium", "No token writes every service everywhere",
        "A leaked pipeline token must not reach other teams' services.",
        "one token for each pipeline, for its own service", "tokens", _write_everywhere,
    ),
    Rule(
        "token-expired", "info", "Expired tokens are revoked",
        "A short list is read, a long one is not.",
        "holdfast token revoke ID", "tokens", _expired_tokens,
    ),
    Rule(
        "development-keys", "critical", "Production is not signed with development keys",
        "They were made without anybody's care, and every consumer calls them out.",
        "holdfast keys init for a data directory of its own, and give consumers its root",
        "root", _development,
    ),
    Rule(
        "one-key", "low", "Production has signing keys of its own",
        "Who can sign for staging can then sign for production.",
        "holdfast keys rotate -e production, then one for the others", "root", _one_key,
    ),
    Rule(
        "roots-end", "medium", "The chain of roots has room",
        "Once it is full no key can be rotated any more.",
        "plan a new installation (docs/howto/restore.md)", "root", _roots_end,
    ),
    Rule(
        "root-key-on-server", "high", "The root key lies elsewhere",
        "Whoever takes the server over can make keys that every consumer believes.",
        "move keys/root.key off this machine, and keep a copy", "local", _root_key,
    ),
    Rule(
        "data-dir-open", "high", "Only its owner reads the data directory",
        "Signing keys, token hashes and every value lie there.",
        "chmod -R go-rwx DATA_DIR", "local", _open_paths,
    ),
    Rule(
        "backup", "medium", "There is a backup of the last day",
        "A journal that is lost is lost with everything it explains.",
        "copy it daily (docs/reference/journal.md), and name the copy with --backup",
        "local", _backup,
    ),
    Rule(
        "head-witness", "low", "The journal's head is noted beside it",
        "Without it an end that was cut off is not noticed at the start.",
        "it comes back with the next change; ask who deleted it", "local", _head_file,
    ),
    Rule(
        "owners", "low", "Every service has an owner",
        "Somebody has to be woken when it breaks.",
        "add owners to its file, and apply it", "services", _owners,
    ),
    Rule(
        "schemas", "low", "Settings in production have schemas",
        "A value of the right type and the wrong size breaks whoever reads it.",
        "add schema: {…} to the setting", "services", _schemas,
    ),
    Rule(
        "contracts", "medium", "Consumers have published contracts",
        "Without one nobody knows whom a change breaks until it does.",
        "holdfast contract publish", "services", _contracts,
    ),
    Rule(
        "expired-settings", "low", "Temporary settings are gone by their date",
        "Old switches meet new code.",
        "delete them, or move the date", "services", _expired_settings,
    ),
    Rule(
        "secrets", "high", "No value looks like a secret",
        "Everybody who may read the service reads it, and so does every backup.",
        "put it in a secret store, revoke it, and keep a reference here", "services", _secrets,
    ),
    Rule(
        "no-consumers", "info", "Consumers report",
        "Gates judge by what consumers tell.",
        "let clients and edges run with reports on (docs/howto/use-the-sdk.md)",
        "consumers", _no_consumers,
    ),
    Rule(
        "stale", "high", "Consumers know that they are up to date",
        "One that is not told is one that misses the next repair.",
        _FLEET, "consumers", _stale,
    ),
    Rule(
        "silent", "medium", "Consumers are heard of",
        "Silence looks the same whether it is well or dead.",
        _FLEET, "consumers", _silent,
    ),
    Rule(
        "behind", "medium", "Consumers run the newest revision",
        "Two truths in one fleet are hard to tell apart in an incident.",
        _FLEET, "consumers", _behind,
    ),
    Rule(
        "refusing", "high", "No consumer refuses what is published",
        "It has a reason, and it may be right.",
        "read the refusal (holdfast fleet), and mend the change or the consumer",
        "consumers", _refusing,
    ),
    Rule(
        "crashing", "high", "No consumer went back after crashes",
        "A value that is valid and crashes its reader is still out there.",
        "revert the change (holdfast revert), then mend the reader", "consumers", _crashing,
    ),
    Rule(
        "old-consumers", "low", "Consumers run the control plane's minor version",
        "Old checks miss what new ones find.",
        "upgrade the SDK or the edge", "consumers", _old_builds,
    ),
    Rule(
        "witness", "medium", "Consumers bear witness to the journal",
        "Only what left the store can show that its owner rewrote it.",
        "run an edge on another machine, and holdfast audit verify with its cache",
        "consumers", _witnesses,
    ),
    Rule(
        "rewritten", "critical", "The journal is what was seen of it",
        "Somebody changed, dropped or replaced entries in the store.",
        "holdfast audit verify; then docs/howto/audit.md", "rewritten", _rewritten,
    ),
    Rule(
        "ready", "critical", "The control plane is ready",
        "It commits and serves nothing.",
        "its answer and its log say why; docs/howto/release-safety.md", "ready", _not_ready,
    ),
    Rule(
        "open-reads", "high", "Reads take a token",
        "Everybody who reaches it reads every value.",
        "start it without --open, and give readers tokens", "open_reads", _open_reads,
    ),
    Rule(
        "plain-http", "high", "Traffic beyond this machine is encrypted",
        "Tokens and values can be read on the way.",
        "put a proxy with TLS before it, and use its https:// address", "encrypted", _plain,
    ),
)  # fmt: skip
