"""The commands against a real control plane: what they do, print, and leave with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.end_to_end.processes import DEMO_SHOP, HOLDFAST, Dev, call, eventually

from holdfast import Client
from holdfast.apps.cli import run

SETTINGS = """\
service: {service}
attributes: {{tenant: string, user: string}}
segments:
  pilot: {{by: tenant, members: [contoso]}}
settings:
  tiles:
    type: integer
    variants: {{few: 9, many: {many}}}
    environments:
      production:
        default: few
        rules:
          - {{name: pilots, when: tenant in segment("pilot"), serve: many}}
          - {{name: a half, split: {{by: user, weights: {{few: 1, many: 1}}}}}}
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def holdfast(
    shop: Dev, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Run one command: (exit code, standard output, standard error)."""
    monkeypatch.setenv("HOLDFAST_DATA", str(shop.data_dir))
    for variable in ("HOLDFAST_SERVER", "HOLDFAST_TOKEN", "HOLDFAST_EDGES"):
        monkeypatch.delenv(variable, raising=False)

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return command


@pytest.fixture
def service(request: pytest.FixtureRequest) -> str:
    """A service of the test's own."""
    return request.node.name.replace("test_", "")[:40].strip("_").replace("_", "-").split("[")[0]


@pytest.fixture
def file(tmp_path: Path, service: str) -> Iterator[Path]:
    path = tmp_path / "settings.yaml"
    write(path, service)
    return path


def write(path: Path, service: str, many: int = 49) -> None:
    path.write_text(SETTINGS.format(service=service, many=many))


def json(shown: tuple[int, str, str]) -> Any:
    code, out, err = shown
    assert code == 0, err
    return msgspec.json.decode(out)


def head(holdfast: Command) -> int:
    revision = json(holdfast("status", "--output", "json"))["control"]["revision"]
    assert isinstance(revision, int)
    return revision


def test_plan_shows_and_changes_nothing(holdfast: Command, file: Path, service: str) -> None:
    before = head(holdfast)
    code, out, _ = holdfast("plan", str(file))
    assert code == 0
    assert f"+ {service}/tiles  (production)" in out
    assert "production  default few, 2 rules" in out
    assert f"3 to add, 0 to change, 0 to remove, on revision {before}." in out
    assert "\x1b" not in out
    assert head(holdfast) == before


def test_plan_of_a_bad_file_is_1_with_all_problems(
    holdfast: Command, file: Path, service: str
) -> None:
    file.write_text(file.read_text().replace("tenant in", "tenat in").replace("few: 1,", "no: 1,"))
    code, out, err = holdfast("plan", str(file))
    assert (code, out) == (1, "")
    assert f"{file}:13:" in err
    assert "tenat" in err
    assert "2 errors" in err
    code, out, _ = holdfast("plan", str(file), "--output", "json")
    assert code == 1
    assert msgspec.json.decode(out)["ok"] is False


def test_apply_commits_once(holdfast: Command, file: Path, service: str) -> None:
    before = head(holdfast)
    first = json(holdfast("apply", str(file), "--reason", "a drill", "--output", "json"))
    assert first["revision"] == before + 1
    assert [one["service"] for one in first["subjects"]] == [service]
    again = json(holdfast("apply", str(file), "--output", "json"))
    assert again["revision"] == before + 1
    assert again["differences"] == []
    code, _, err = holdfast("apply", str(file))
    assert code == 0
    assert "No differences" in err


def test_apply_shows_what_moved_where(holdfast: Command, file: Path, service: str) -> None:
    json(holdfast("apply", str(file), "--output", "json"))
    write(file, service, many=48)
    code, out, err = holdfast("apply", str(file))
    assert code == 0
    assert f"~ {service}/tiles  (production)" in out
    assert "everywhere  variants.many: 49 -> 48" in out
    assert f"new snapshots for production/{service}" in err


def test_what_was_planned_on_is_what_is_committed_on(
    holdfast: Command, shop: Dev, file: Path, service: str
) -> None:
    """With somebody's commit between plan and commit, the commit is refused and told so."""
    base = head(holdfast)
    text = {"file": "mine.yaml", "text": file.read_text()}
    assert shop.ask("PUT", f"/v1/environments/{service[:20].strip('-')}", {})[0] == 200
    status, answer, _ = shop.ask(
        "POST", "/v1/commits", {"documents": [text], "base_revision": base}
    )
    assert status == 409
    assert (answer["error"]["expected_revision"], answer["error"]["actual_revision"]) == (
        base,
        base + 1,
    )


def test_a_list_of_members_goes_along(
    holdfast: Command, shop: Dev, file: Path, service: str
) -> None:
    listed = file.read_text().replace("members: [contoso]", "members_file: 'pilots.txt'")
    file.write_text(listed)
    code, _, err = holdfast("apply", str(file))
    assert code == 1
    assert f"{file}:4:" in err
    assert "pilots.txt" in err
    members = "\n".join(f"tenant-{number}" for number in range(20_000))
    (file.parent / "pilots.txt").write_text(members)
    json(holdfast("apply", str(file), "--output", "json"))
    eventually(
        lambda: shop.evaluate(service, "tiles", tenant="tenant-19999")[0] == 200, "at the edge"
    )
    assert shop.value(service, "tiles", tenant="tenant-19999") == 49


def test_history_diff_revert(holdfast: Command, file: Path, service: str) -> None:
    first = json(holdfast("apply", str(file), "-o", "json", "--reason", "nine"))["revision"]
    write(file, service, many=48)
    second = json(holdfast("apply", str(file), "-o", "json", "--reason", "forty-eight"))["revision"]
    entries = json(holdfast("history", "--service", service, "-o", "json"))["entries"]
    assert [(one["revision"], one["reason"]) for one in entries] == [
        (second, "forty-eight"),
        (first, "nine"),
    ]
    found = json(holdfast("diff", str(first), str(second), "-o", "json"))["differences"]
    assert [(one["service"], one["name"]) for one in found] == [(service, "tiles")]
    code, out, _ = holdfast("history", str(second))
    assert code == 0
    assert "forty-eight" in out
    assert "variants.many: 49 -> 48" in out
    code, out, _ = holdfast("revert", str(second), "--yes")
    assert code == 0
    assert "variants.many: 48 -> 49" in out
    kept = json(holdfast("get", service, "tiles", "-o", "json"))
    assert kept["setting"]["variants"] == {"few": 9, "many": 49}


def test_restore_brings_back_what_was_deleted(holdfast: Command, file: Path, service: str) -> None:
    json(holdfast("apply", str(file), "-o", "json"))
    text = file.read_text()
    file.write_text(text[: text.index("settings:")] + "settings: {}\n")
    code, out, _ = holdfast("apply", str(file))
    assert code == 0
    assert f"- {service}/tiles" in out
    assert holdfast("get", service, "tiles")[0] == 1
    code, out, _ = holdfast("restore", service, "tiles", "--yes")
    assert code == 0
    assert f"+ {service}/tiles" in out
    assert holdfast("get", service, "tiles")[0] == 0


def test_a_service_comes_out_as_the_file_that_changes_nothing(
    holdfast: Command, file: Path, service: str
) -> None:
    json(holdfast("apply", str(file), "-o", "json"))
    code, out, _ = holdfast("get", service, "--output", "yaml")
    assert code == 0
    file.write_text(out)
    assert json(holdfast("plan", str(file), "-o", "json"))["differences"] == []


def test_explain_says_why(holdfast: Command, file: Path, service: str) -> None:
    json(holdfast("apply", str(file), "-o", "json"))
    code, out, _ = holdfast("explain", "tiles", "-s", service, "-c", "tenant=contoso")
    assert code == 0
    assert out.startswith(f"production/{service}/tiles = 49")
    assert "rule 1 'pilots': yes, it decided" in out
    code, out, _ = holdfast("explain", "tiles", "-s", service, "--context", '{"user": "u1"}')
    assert code == 0
    assert "rule 1 'pilots': no" in out
    assert "← here" in out
    explained = json(
        holdfast("explain", "tiles", "-s", service, "-c", "tenant=contoso", "-o", "json")
    )
    assert (explained["value"], explained["variant"], explained["rule"]) == (49, "many", 0)


def test_what_was_exported_evaluates_as_what_was_imported(
    holdfast: Command, tmp_path: Path
) -> None:
    exported = tmp_path / "flags.json"
    code, _, err = holdfast("export", "flagd", "-s", "demo-shop", "--to", str(exported))
    assert code == 0, err
    before, after = Client.from_file(DEMO_SHOP), Client.from_file(exported)
    keys = msgspec.json.decode(DEMO_SHOP.read_bytes())["flags"]
    for context in ({"targetingKey": "u"}, {"targetingKey": "u", "product_id": "OLJCESPC7Z"}):
        for key in keys:
            one, other = before.evaluate(key, context), after.evaluate(key, context)
            assert one.value == other.value
            assert (one.variant, one.reason) == (other.variant, other.reason)
    ask = ("import", "flagd", str(exported), "-s", "demo-shop", "--check", "-o", "json")
    again = json(holdfast(*ask))
    assert again["check"]["ok"]
    assert again["commit"] is None


def test_lenient_import_lists_what_it_mended(holdfast: Command, tmp_path: Path) -> None:
    odd = tmp_path / "odd.json"
    odd.write_text('{"flags": {"a": {"state": "ENABLED", "variants": {"on": true, "off": 1},'
                   ' "defaultVariant": "on"}}}')  # fmt: skip
    code, _, err = holdfast("import", "flagd", str(odd), "-s", "odd")
    assert code == 1
    assert "error" in err
    assert holdfast("get", "odd", "a")[0] == 1


def test_an_exported_snapshot_is_what_consumers_get(
    holdfast: Command, shop: Dev, tmp_path: Path
) -> None:
    file = tmp_path / "snapshot.json"
    assert holdfast("export", "snapshot", "-s", "demo-shop", "--to", str(file))[0] == 0
    with Client.from_file(file) as client:
        assert client.get_int("loadGeneratorVUs", 0) == 5


def test_a_token_reads_what_its_scope_says_until_it_is_revoked(
    holdfast: Command, shop: Dev
) -> None:
    issued = json(
        holdfast(
            *("token", "create", "reader", "--verb", "read", "-s", "demo-shop"),
            *("--expires", "1d", "-o", "json"),
        )
    )
    token = issued["token"]
    listed = json(holdfast("token", "list", "-o", "json"))
    assert issued["id"] in {one["id"] for one in listed}
    assert token.rpartition("_")[2] not in str(listed)
    snapshot = f"{shop.control}/production/demo-shop/snapshot"
    other = f"{shop.control}/production/mail/snapshot"
    assert call("GET", snapshot, token=token)[0] == 200
    assert call("GET", other, token=token)[0] == 403
    code, _, err = holdfast("apply", str(DEMO_SHOP.parent / "contoso"), "--token", token)
    assert code == 2
    assert "error" in err
    assert holdfast("token", "revoke", issued["id"])[0] == 0
    assert call("GET", snapshot, token=token)[0] == 401


def test_a_token_given_in_place_of_its_id_is_refused(holdfast: Command) -> None:
    code, _, err = holdfast("token", "revoke", "hf_abc_" + "0" * 64)
    assert code == 2
    assert "id" in err


def test_the_first_token_needs_the_files_and_no_token(shop: Dev) -> None:
    nothing = {"HOLDFAST_SERVER": "", "HOLDFAST_TOKEN": ""}
    done = shop.holdfast("token", "first", "lost", "--data", str(shop.data_dir), **nothing)
    assert done.returncode == 0, done.stderr
    token = done.stdout.strip()
    eventually(lambda: call("GET", f"{shop.control}/v1/tokens", token=token)[0] == 200, "it")


def test_without_keys_there_is_no_first_token(shop: Dev, tmp_path: Path) -> None:
    done = shop.holdfast("token", "first", "--data", str(tmp_path / "nothing"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "keys" in done.stderr


def test_keys_are_made_rotated_and_shown(holdfast: Command, tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    made = json(holdfast("keys", "init", *data, "-o", "json"))
    assert (made["version"], made["development"]) == (1, False)
    code, _, err = holdfast("keys", "init", *data)
    assert code == 2
    assert "already" in err
    rotated = json(holdfast("keys", "rotate", *data, "-o", "json"))
    assert rotated["version"] == 2
    assert len(rotated["keys"]) == 2
    revoked = json(holdfast("keys", "rotate", *data, "--revoke", "-o", "json"))
    assert len(revoked["keys"]) == 1
    assert json(holdfast("keys", "rotate", *data, "--root", "-o", "json"))["version"] == 4
    pinned = tmp_path / "root.json"
    shown = json(holdfast("keys", "show", *data, "--to", str(pinned), "-o", "json"))
    assert shown["version"] == 4
    assert msgspec.json.decode(pinned.read_bytes())["version"] == 4


def test_environments_are_made_and_listed(holdfast: Command) -> None:
    assert holdfast("env", "put", "canary", "--bucketing", "v2")[0] == 0
    found = {one["environment"]: one for one in json(holdfast("env", "list", "-o", "json"))}
    assert found["canary"]["bucketing"] == "v2"
    assert found["production"]["bucketing"] == "v3"


def test_an_environment_is_paced(holdfast: Command) -> None:
    assert holdfast("env", "put", "paced")[0] == 0
    assert holdfast("env", "pace", "paced", "--poll", "15", "--no-streams")[0] == 0
    shown = json(holdfast("env", "pace", "paced", "-o", "json"))
    assert (shown["poll_interval_s"], shown["streams"]) == (15, False)
    assert shown["poll_interval_max_s"] == 300
    assert holdfast("env", "pace", "paced", "--poll", "0")[0] == 1


def test_status_tells_who_is_well(holdfast: Command, shop: Dev) -> None:
    def current() -> Any:
        found = msgspec.json.decode(holdfast("status", "-o", "json")[1])
        return found if found["well"] else None

    found = eventually(current, "all well")
    assert found["control"]["ready"]
    assert found["edges"][0]["behind"] == 0
    rows = {(one["environment"], one["service"]): one for one in found["subjects"]}
    revision, age_s = rows["production", "demo-shop"]["edges"][0]
    assert revision == rows["production", "demo-shop"]["revision"]
    assert 0 <= age_s < 3_600
    code, out, err = holdfast("status", "--edge", "http://127.0.0.1:9")
    assert code == 1
    assert "does not answer" in out
    assert "Not all is well" in err


def test_a_reader_that_leaves_early_is_no_error(shop: Dev, tmp_path: Path) -> None:
    told = tmp_path / "told"
    piped = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {HOLDFAST} history -n 500 2>{told} | true"],
        env={"HOLDFAST_DATA": str(shop.data_dir), "PATH": os.environ["PATH"]},
        check=False,
    )
    assert (piped.returncode, told.read_text()) == (0, "")


def test_a_service_that_is_not_there_is_a_problem_and_no_empty_list(holdfast: Command) -> None:
    for output in ("text", "json", "yaml"):
        code, shown, told = holdfast("get", "nobody", "--output", output)
        assert (code, shown) == (1, "")
        assert "nobody" in told


def test_an_export_that_can_not_be_written_is_told(holdfast: Command, tmp_path: Path) -> None:
    to = tmp_path / "absent" / "flags.json"
    for kind in ("flagd", "snapshot"):
        code, _, told = holdfast("export", kind, "-s", "demo-shop", "--to", str(to))
        assert code == 1
        assert str(to) in told
        assert "No such file or directory" in told


def test_what_was_never_deleted_still_stands(holdfast: Command) -> None:
    code, _, told = holdfast("restore", "demo-shop", "--yes")
    assert code == 1
    assert "`demo-shop` still stands" in told


def test_the_past_of_a_service_that_never_was_is_not_found(holdfast: Command) -> None:
    for command in (("diff", "0"), ("history",)):
        code, shown, told = holdfast(*command, "-s", "nope")
        assert (code, shown) == (1, "")
        assert "no service 'nope'" in told
        assert "[not-found]" in told


def test_an_edge_in_place_of_the_control_plane_is_told(
    holdfast: Command, shop: Dev, file: Path
) -> None:
    for command in (("history",), ("get", "demo-shop"), ("apply", str(file))):
        code, _, told = holdfast(*command, "--server", shop.edge, "--token", shop.token)
        assert code == 1
        assert f"{shop.edge} is an edge" in told
        assert "[not-control]" in told
        assert "--server" in told


def test_a_second_control_plane_on_the_same_data_is_refused(holdfast: Command, shop: Dev) -> None:
    code, _, told = holdfast("control", "--data", str(shop.data_dir), "--port", "0")
    assert code == 1
    assert f"process {shop.facts.processes['control plane']}" in told


def test_a_body_that_is_far_too_large_is_told_so_at_both_processes(shop: Dev) -> None:
    routes = (
        f"{shop.control}/v1/commits",
        f"{shop.edge}/production/demo-shop/ofrep/v1/evaluate/flags/cartFailure",
    )
    for route in routes:
        # As urllib sends it: `Connection: close`, and nothing read before all is sent.
        status, body, _ = call("POST", route, "x" * 10_000_000, shop.token)
        assert (status, body["error"]["code"]) == (413, "too-large")


def test_the_revision_that_is_not_there_is_the_one_that_was_named(holdfast: Command) -> None:
    code, _, told = holdfast("revert", "9999", "--yes")
    assert code == 1
    assert "there is no revision 9999" in told
