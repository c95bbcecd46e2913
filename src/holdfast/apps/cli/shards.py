"""`holdfast edge shards`: which edges serve which services, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.options import IN_ENVIRONMENT, output_option
from holdfast.apps.cli.output import print_data, print_table, say

if TYPE_CHECKING:
    from holdfast.core.cells import Overlap
    from holdfast.core.model import Subject


@click.command()
@click.argument("plan", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--from-edge", metavar="URL", help="Take the services from an edge's catalogue.")
@click.option(
    "--token", default="", envvar="HOLDFAST_TOKEN", metavar="TOKEN", help="With the verb read."
)
@IN_ENVIRONMENT
@output_option()
def shards(
    plan: Path,
    services: tuple[str, ...],
    from_edge: str | None,
    token: str,
    environment: str,
    output: str,
) -> None:
    """Show which edges of PLAN serve which services, and how many edges two services share.

    PLAN is the file that the edges have (holdfast edge --shards PLAN). Nothing is asked but, with
    --from-edge, one catalogue.

    \b
    Examples:
      holdfast edge shards shards.json shop identity
      holdfast edge shards shards.json --from-edge http://edge-1:8016 --output json
    """
    from holdfast.apps.shards import read_plan
    from holdfast.core.cells import assigned, overlap_chances, overlaps
    from holdfast.core.model import Subject

    subjects = [Subject(environment, service) for service in services]
    if from_edge:
        subjects += _listed(from_edge, token, environment)
    if not subjects:
        raise click.UsageError("Name services, or give --from-edge URL.")
    made = read_plan(plan)
    subjects = sorted(set(subjects))
    chances = overlap_chances(len(made.edges), made.per_service)
    shared = overlaps(made, subjects)
    facts = {
        "edges": made.edges,
        "per_service": made.per_service,
        "services": {str(one): assigned(made, one) for one in subjects},
        "shared": [{"services": one.services, "edges": one.edges} for one in shared],
        "chances": dict(enumerate(chances)),
    }
    if print_data(facts, output):
        return
    print_table(["service", "edges"], [(str(s), ", ".join(assigned(made, s))) for s in subjects])
    pairs = len(subjects) * (len(subjects) - 1) // 2
    click.echo()
    print_table(["edges shared", "pairs of services", "expected"], _counted(shared, pairs, chances))
    whole = [one.services for one in shared if len(one.edges) == made.per_service]
    for one, other in whole[:20]:
        say(f"{one} and {other} share every edge: one may take the other along", fg="yellow")


def _counted(
    shared: Sequence[Overlap], pairs: int, chances: Sequence[float]
) -> list[tuple[int, int, str]]:
    counts = [0] * len(chances)
    for one in shared:
        counts[min(len(one.edges), len(chances) - 1)] += 1
    counts[0] = pairs - sum(counts[1:])
    return [(o, counts[o], f"{pairs * chance:.1f}") for o, chance in enumerate(chances)]


def _listed(url: str, token: str, environment: str) -> list[Subject]:
    from holdfast.adapters.http_source import HttpSource

    listed = HttpSource(url, token).catalogue()
    return [
        one for one in listed if one.environment == environment and not one.service.startswith("_")
    ]
