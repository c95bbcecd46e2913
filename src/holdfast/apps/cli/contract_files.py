"""Contracts as the command line has them: files, folders of files, and types of a program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click
import msgspec

from holdfast.apps.cli.texts import read_texts
from holdfast.apps.control.schemas import Text
from holdfast.core.authoring.contract_file import ContractFile, read_contract
from holdfast.core.authoring.tree import read_tree
from holdfast.core.errors import Invalid, Problem


class Given(msgspec.Struct, frozen=True):
    """What was named on the command line: contracts, and settings files."""

    contracts: tuple[ContractFile, ...]
    settings: tuple[Text, ...] = ()


class Options(msgspec.Struct, frozen=True):
    """What the command line says besides; it goes before what a file says."""

    service: str = ""
    consumer: str = ""
    version: str = ""
    environments: tuple[str, ...] = ()


def read_targets(targets: Sequence[str], options: Options) -> Given:
    """Files and folders, and types as `module:name`. Raises `Invalid` with all problems."""
    shapes = [target for target in targets if _is_shape(target)]
    paths = [Path(target) for target in targets if target not in shapes]
    texts = read_texts(paths) if paths else ()
    contracts: list[ContractFile] = [_of_shape(shape, options) for shape in shapes]
    settings: list[Text] = []
    problems: list[Problem] = []
    for text in texts:
        if not _is_contract(text):
            settings.append(text)
            continue
        try:
            contracts.append(_with(read_contract(text.text.encode(), text.file), options))
        except Invalid as invalid:
            problems += invalid.problems
    if problems:
        raise Invalid(problems)
    return Given(tuple(contracts), tuple(settings))


def _is_shape(target: str) -> bool:
    return ":" in target and not Path(target).exists()


def _is_contract(text: Text) -> bool:
    root = read_tree(text.text.encode(), text.file).root
    return root is not None and isinstance(root.value, dict) and "consumer" in root.value


def _with(file: ContractFile, options: Options) -> ContractFile:
    contract = msgspec.structs.replace(
        file.contract,
        version=options.version or file.contract.version,
        environments=options.environments or file.contract.environments,
    )
    return ContractFile(
        options.service or file.service, options.consumer or file.consumer, contract
    )


def _of_shape(shape: str, options: Options) -> ContractFile:
    from holdfast.sdk.contract import contract_of

    if not (options.service and options.consumer):
        raise click.UsageError(f"{shape} says not who reads what: give --service and --consumer.")
    module, _, name = shape.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(import_module(module), name)
        contract = contract_of(found, version=options.version, environments=options.environments)
    except (ImportError, AttributeError, TypeError) as failed:
        raise click.UsageError(f"{shape}: {failed}") from None
    return ContractFile(options.service, options.consumer, contract)
