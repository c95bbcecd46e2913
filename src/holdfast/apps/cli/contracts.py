"""The commands of contracts: `contract publish | list | show | delete`, and `can-deploy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.names import CONSUMER_NAME, SERVICE_NAME
from holdfast.apps.cli.options import REASON, connected, output_option
from holdfast.apps.cli.output import print_data, print_problems, print_table, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api
    from holdfast.apps.cli.contract_files import Given
    from holdfast.apps.control.contract_schemas import CanDeploy, Contracts

TARGETS = click.argument("targets", nargs=-1, metavar="[FILE|DIRECTORY|MODULE:TYPE]...")
READ_SERVICE = click.option("--service", "-s", default="", help="The service that is read.")
CONSUMER = click.option("--consumer", "-c", default="", help="Who reads it.")
VERSION = click.option("--version", default="", help="The consumer's own version, its build say.")
ENVIRONMENTS = click.option(
    "--environment", "-e", "environments", multiple=True, help="Where; may be given several times."
)


@click.group()
def contract() -> None:
    """What consumers need of a service: every change is held against it."""


@contract.command("publish")
@TARGETS
@READ_SERVICE
@CONSUMER
@VERSION
@ENVIRONMENTS
@REASON
@output_option()
@connected
def publish(  # a command's options
    api: Api,
    targets: tuple[str, ...],
    service: str,
    consumer: str,
    version: str,
    environments: tuple[str, ...],
    reason: str,
    output: str,
) -> None:
    """Publish contracts: files, folders of them, or the type that a program fills by `bind`.

    It is refused when what stands does not keep the contract.

    \b
    Examples:
      holdfast contract publish contracts/web-client.yaml --version 1.5.0
      holdfast contract publish shop.settings:Shop -s demo-shop -c checkout -e production
    """
    from holdfast.apps.control.schemas import Committed

    if not targets:
        raise click.UsageError("Name a contract's file, a folder of them, or a type.")
    given = _given(targets, service, consumer, version, environments)
    if given.settings:
        raise click.UsageError(f"{given.settings[0].file} is no contract: it names no `consumer`.")
    told = []
    for one in given.contracts:
        path = f"/v1/services/{one.service}/contracts/{one.consumer}"
        body = {"contract": one.contract, "reason": reason}
        committed = api.call(Committed, "PUT", path, body)
        told.append(
            {"service": one.service, "consumer": one.consumer, "revision": committed.revision}
        )
        if output == "text":
            print_problems(committed.problems)
            what = f"The contract of {one.consumer} with {one.service}"
            if committed.differences:
                say(f"{what} holds from revision {committed.revision} on.", fg="green")
            else:
                say(f"{what} stands so already.")
    print_data(told, output)


@contract.command("list")
@click.argument("service", type=SERVICE_NAME)
@output_option()
@connected
def list_contracts(api: Api, service: str, output: str) -> None:
    """Show who needs what of a SERVICE.

    \b
    Example:
      holdfast contract list calling
    """
    found = _pages(api, service)
    if not print_data(found, output):
        print_table(
            ["consumer", "version", "environments", "needs", "examples", "revision", "owners"],
            (
                (
                    one.consumer,
                    one.version,
                    ", ".join(one.environments) or "all",
                    one.need_count,
                    one.example_count,
                    one.revision,
                    ", ".join(one.owners),
                )
                for page in found
                for one in page.contracts
            ),
        )


@contract.command("show")
@click.argument("service", type=SERVICE_NAME)
@click.argument("consumer", type=CONSUMER_NAME)
@output_option("yaml", "json")
@connected
def show(api: Api, service: str, consumer: str, output: str) -> None:
    """Print the contract of a CONSUMER with a SERVICE, in the form of its file.

    \b
    Example:
      holdfast contract show calling web-client > contracts/web-client.yaml
    """
    import msgspec

    from holdfast.apps.control.contract_schemas import ContractDetail

    found = api.call(ContractDetail, "GET", f"/v1/services/{service}/contracts/{consumer}")
    contract = msgspec.to_builtins(found.contract)
    print_data({"service": service, "consumer": consumer, **contract}, output)


@contract.command("delete")
@click.argument("service", type=SERVICE_NAME)
@click.argument("consumer", type=CONSUMER_NAME)
@output_option()
@connected
def delete(api: Api, service: str, consumer: str, output: str) -> None:
    """Delete the contract of a CONSUMER that does not read the SERVICE any more.

    \b
    Example:
      holdfast contract delete calling web-client
    """
    from holdfast.apps.control.schemas import Revised

    revised = api.call(Revised, "DELETE", f"/v1/services/{service}/contracts/{consumer}")
    if not print_data(revised, output):
        say(f"Nothing is held against it from revision {revised.revision} on.", fg="green")


@click.command("can-deploy")
@TARGETS
@READ_SERVICE
@CONSUMER
@VERSION
@ENVIRONMENTS
@output_option()
@connected
def can_deploy(  # a command's options
    api: Api,
    targets: tuple[str, ...],
    service: str,
    consumer: str,
    version: str,
    environments: tuple[str, ...],
    output: str,
) -> None:
    """Ask whether a consumer may run against what stands, or a change may go out.

    A contract (a file, a type, or with --service and --consumer the published one) is held against
    what stands. Settings files are held against every live contract. With nothing: does what stands
    keep all contracts? Exit code 0 for yes, 1 for no.

    \b
    Examples:
      holdfast can-deploy contracts/web-client.yaml --environment production
      holdfast can-deploy --service calling --consumer web-client -e production
      holdfast can-deploy examples/contoso
    """
    given = _given(targets, service, consumer, version, environments)
    asked = _ask(api, given, _published(targets, service, consumer), environments)
    ok = all(answer.ok for _, answer in asked)
    answers = [{"what": what, "answer": answer} for what, answer in asked]
    if not print_data({"ok": ok, "answers": answers}, output):
        for _, answer in asked:
            print_problems(answer.problems)
        rows = ((what, ", ".join(a.environments), "yes" if a.ok else "no") for what, a in asked)
        print_table(["what", "environments", "can deploy"], rows)
    if not ok:
        raise click.exceptions.Exit(1)


def _given(
    targets: tuple[str, ...],
    service: str,
    consumer: str,
    version: str,
    environments: tuple[str, ...],
) -> Given:
    from holdfast.apps.cli.contract_files import Options, read_targets

    return read_targets(targets, Options(service, consumer, version, environments))


def _published(targets: tuple[str, ...], service: str, consumer: str) -> dict[str, object] | None:
    """The published contract that is asked about, if it is one."""
    if targets or not (service or consumer):
        return None
    if not (service and consumer):
        raise click.UsageError("Give both --service and --consumer, or a contract.")
    return {"service": service, "consumer": consumer}


def _ask(
    api: Api,
    given: Given,
    published: dict[str, object] | None,
    environments: tuple[str, ...],
) -> list[tuple[str, CanDeploy]]:
    from holdfast.apps.cli.texts import send_members
    from holdfast.apps.control.contract_schemas import CanDeploy

    questions: list[tuple[str, dict[str, object]]] = []
    if published:
        name = f"{published['consumer']} with {published['service']}"
        questions.append((name, {"reader": published, "environments": environments}))
    for one in given.contracts:
        reader = {"service": one.service, "consumer": one.consumer, "contract": one.contract}
        body: dict[str, object] = {"reader": reader, "environments": environments}
        questions.append((f"{one.consumer} with {one.service}", body))
    if given.settings:
        texts = send_members(api, given.settings)
        questions.append((f"{len(texts)} settings files", {"change": {"documents": texts}}))
    if not questions:
        questions.append(("what stands", {"environments": environments}))
    return [(what, api.call(CanDeploy, "POST", "/v1/can-deploy", body)) for what, body in questions]


def _pages(api: Api, service: str) -> list[Contracts]:
    from holdfast.apps.control.contract_schemas import Contracts

    found: list[Contracts] = []
    cursor: str | None = None
    while not found or cursor:
        path = f"/v1/services/{service}/contracts"
        found.append(api.call(Contracts, "GET", path, cursor=cursor, limit=500))
        cursor = found[-1].cursor
    return found
