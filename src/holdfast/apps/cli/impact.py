"""`holdfast impact`: who a change would move, over contexts really seen; as text, JSON, picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.apps.cli.options import connected, output_option
from holdfast.apps.cli.output import print_data, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api
    from holdfast.apps.control.schemas import Text
    from holdfast.core.impact import Downstream, Impact, Move, Reached, SettingImpact, SubjectImpact

BAR_CHARS = 24
SETTINGS_SHOWN = 12
MOVES_SHOWN = 5
VALUE_CHARS_MAX = 48

PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
PRUNE = click.option("--prune", is_flag=True, help="As for plan.")
ENVIRONMENT = click.option("--environment", "-e", default="", help="Only there; else everywhere.")
CONTEXTS = click.option(
    "--contexts",
    "contexts_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Contexts to try instead of sampled ones: a JSON list, or one JSON object a line.",
)
PICTURE = click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also draw it, into a file that ends in .svg, .png or .pdf.",
)


@click.command()
@PATHS
@PRUNE
@ENVIRONMENT
@CONTEXTS
@PICTURE
@output_option()
@connected
def impact(
    api: Api,
    paths: tuple[Path, ...],
    prune: bool,
    environment: str,
    contexts_file: Path | None,
    picture: Path | None,
    output: str,
) -> None:
    """Show who applying settings files would move; changes nothing.

    What stands is held against what would stand, over the contexts that clients and edges really
    saw: requests, tenants and users per service, values before and after, and services downstream.

    \b
    Examples:
      holdfast impact calling.yaml
      holdfast impact calling.yaml --picture impact.svg
      holdfast impact calling.yaml --contexts contexts.jsonl --output json | jq .moved
    """
    from holdfast.apps.cli.texts import read_change, send_members

    check_picture(picture)
    texts = send_members(api, read_change(paths))
    found = preview(api, texts, prune=prune, environment=environment, contexts_file=contexts_file)
    show(found, output, picture)


def preview(
    api: Api,
    texts: Sequence[Text],
    *,
    prune: bool = False,
    environment: str = "",
    contexts_file: Path | None = None,
) -> Impact:
    """What the control plane says of the change that these files are. Raises `Invalid`."""
    from holdfast.core.impact import Impact

    body: dict[str, Any] = {"documents": texts, "prune": prune}
    if environment:
        body["environment"] = environment
    if contexts_file is not None:
        body["contexts"] = read_contexts(contexts_file)
    return api.call(Impact, "POST", "/v1/changes/impact", body)


def read_contexts(file: Path) -> list[dict[str, Any]]:
    """Contexts of a file: objects, each a context or `{"context": …, "count": …}`.

    Raises a usage error for a file that holds something else.
    """
    import msgspec

    text = file.read_bytes().strip()
    try:
        whole = text.startswith(b"[")
        found = msgspec.json.decode(text) if whole else msgspec.json.Decoder().decode_lines(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise click.UsageError(f"{file}: no JSON that can be read ({wrong})") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise click.UsageError(f"{file}: give a list of contexts, each an object")
    return [_given(each) for each in found]


def _given(each: dict[str, Any]) -> dict[str, Any]:
    if isinstance(each.get("context"), dict) and each.keys() <= {"context", "count"}:
        return each
    return {"context": each}


def check_picture(picture: Path | None) -> None:
    """Before anything is asked: a picture that can't be drawn is wrong use."""
    if picture is not None:
        from holdfast.apps.cli.picture import check

        check(picture)


def show(found: Impact, output: str, picture: Path | None) -> None:
    if picture is not None:
        from holdfast.apps.cli.picture import draw

        draw(found, picture)
    if print_data(found, output):
        return
    for line in impact_lines(found):
        click.echo(line)
    if picture is not None:
        say(f"Drawn into {picture}.")


def impact_lines(found: Impact) -> Iterator[str]:
    """The whole as text: totals, then service by service, the widest settings first."""
    if not found.subjects and not found.unseen:
        yield "No answer moves."
        return
    if found.subjects:
        seen = found.seen.requests
        yield f"{_share(found.moved)} of {seen:,} seen requests move: {_who(found.moved)}."
    for subject in found.subjects:
        yield ""
        yield from _subject_lines(subject)
    if found.downstream:
        yield ""
        yield click.style("Downstream", bold=True)
        for each in found.downstream:
            yield f"  {_downstream(each)}"
    if found.unseen:
        yield ""
        names = ", ".join(found.unseen[:6])
        more = f" and {len(found.unseen) - 6} more" if len(found.unseen) > 6 else ""
        yield f"Nothing was seen of {names}{more}: nobody knows who moves there."
    for note in found.notes:
        yield ""
        yield click.style(note, dim=True)


def _subject_lines(subject: SubjectImpact) -> Iterator[str]:
    name = click.style(f"{subject.environment}/{subject.service}", bold=True)
    yield f"{name}  {_bar(subject.moved.percent)} {_share(subject.moved)}; {_who(subject.moved)}"
    width = max((len(one.key) for one in subject.settings), default=0)
    for one in subject.settings[:SETTINGS_SHOWN]:
        yield from _setting_lines(one, width)
    left = len(subject.settings) - SETTINGS_SHOWN
    if left > 0:
        yield f"  and {left} more settings"
    if subject.unmoved:
        yield f"  {subject.unmoved} other settings differ and move nobody who was seen"


def _setting_lines(one: SettingImpact, width: int) -> Iterator[str]:
    fate = "  (new)" if one.added else "  (goes away)" if one.removed else ""
    yield f"  {one.key.ljust(width)}  {_bar(one.reached.percent)} {_share(one.reached)}{fate}"
    for move in one.moves[:MOVES_SHOWN]:
        yield f"      {_value(move.before, move.before_variant)} -> {_moved(move)}"
        if move.examples:
            yield click.style(f"        as for {_text(move.examples[0], 100)}", dim=True)


def _moved(move: Move) -> str:
    reached = move.reached
    return (
        f"{_value(move.after, move.after_variant)}: {reached.requests:,} requests, "
        f"{reached.tenants:,} tenants, {reached.users:,} users"
    )


def _downstream(each: Downstream) -> str:
    way = " -> ".join((each.service, *each.way))
    if not each.moved.requests:
        return f"{each.environment}: {way}"
    return f"{each.environment}: {way}; {_share(each.moved)} of its requests are by moved tenants"


def _share(reached: Reached) -> str:
    return f"{reached.percent:.2f} %"


def _who(reached: Reached) -> str:
    return f"{reached.requests:,} requests, {reached.tenants:,} tenants, {reached.users:,} users"


def _bar(percent: float) -> str:
    """Full for all; anything above nothing is at least one mark."""
    full = round(percent / 100 * BAR_CHARS) or (1 if percent > 0 else 0)
    return "█" * full + "░" * (BAR_CHARS - full)


def _value(value: Any, variant: str | None) -> str:
    return "the caller's default" if variant is None else _text(value, VALUE_CHARS_MAX)


def _text(value: Any, chars_max: int) -> str:
    import msgspec

    text = msgspec.json.encode(value).decode()
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"
