"""A change that breaks its consumers, against real processes: it is found, and taken back."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.processes import ROOT, Dev, eventually

DOCUMENT = """\
service: shop
settings:
  tiles:
    type: integer
    variants: {few: %d}
    environments:
      production: {default: few}
"""
SHOPPER = Path(__file__).with_name("shopper.py")


class Shopper:
    """One running `shopper.py`; `values` are what its first user got, in order."""

    def __init__(self, dev: Dev, ring: str, units: int, *more: str) -> None:
        command = [sys.executable, str(SHOPPER), dev.edge, dev.token, ring, str(units), *more]
        self.values: list[int] = []
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.values.append(int(line))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()


class Shop:
    """A running `holdfast dev`, its shoppers, and changes of the one setting that they read."""

    def __init__(self, dev: Dev) -> None:
        self.dev = dev
        self.commit(9)
        self.pilot = Shopper(dev, "ring0", 20)
        self.general = Shopper(dev, "general", 60)
        self.shoppers = [self.pilot, self.general]
        self.all_have(9)

    def all_have(self, value: int) -> None:
        eventually(
            lambda: all(each.values[-1:] == [value] for each in (self.pilot, self.general)),
            f"{value} everywhere",
        )

    def policy(self, *bakes_s: float, **gates: Any) -> None:
        """Changes go to ring0, then to everybody; each stage bakes for so long."""
        stages = [{"rings": ["ring0"], "percent": 0}, {"percent": 100}]
        plan = {
            "stages": [
                {**stage, "bake_s": bake_s} for stage, bake_s in zip(stages, bakes_s, strict=True)
            ],
            "gates": gates,
        }
        body = {"policy": {"rollout": plan}}
        status, answer, _ = self.dev.ask("PUT", "/v1/environments/production/policy", body)
        assert status == 200, answer

    def commit(self, value: int) -> str:
        """The id of the rollout that the change begins."""
        body = {"documents": [{"file": "shop.yaml", "text": DOCUMENT % value}]}
        status, answer, _ = self.dev.ask("POST", "/v1/commits", body)
        assert status == 201, answer
        return f"production.{answer['revision']}"

    def ended(self, rollout: str, within_s: float = 60.0) -> Any:
        """The rollout as it ended."""

        def found() -> Any:
            _, body, _ = self.dev.ask("GET", f"/v1/rollouts/{rollout}")
            return body if body["rollout"]["status"] in ("completed", "rolled-back") else None

        return eventually(found, f"the end of {rollout}", within_s)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    dev = Dev(tmp_path_factory.mktemp("rollouts") / "data")
    shop = Shop(dev)
    yield shop
    for each in shop.shoppers:
        each.stop()
    dev.stop()


def test_consumers_are_in_the_fleet(shop: Shop) -> None:
    def both() -> Any:
        _, body, _ = shop.dev.ask("GET", "/v1/fleet?environment=production&service=shop")
        names = {each["report"].get("application", "edge") for each in body["consumers"]}
        return body if {"shopper/ring0", "shopper/general", "edge"} <= names else None

    body = eventually(both, "the shoppers and their edge")
    assert body["summary"]["refusing"] == 0
    listed = shop.dev.holdfast("fleet")
    assert listed.returncode == 0, listed.stderr
    assert "shopper/ring0" in listed.stdout


def test_a_good_value_reaches_everybody_by_itself(shop: Shop) -> None:
    shop.policy(2, 1)
    rollout = shop.commit(10)
    found = shop.ended(rollout)
    assert found["rollout"]["status"] == "completed"
    assert [(each["stage"], each["status"]) for each in found["moves"]] == [
        (1, "running"),
        (1, "completed"),
    ]
    shop.all_have(10)


def test_a_value_that_breaks_requests_is_taken_back_by_itself(shop: Shop, tmp_path: Path) -> None:
    """It reaches the first ring, and nobody else ever."""
    before = shop.general.values[-1]
    shop.policy(600, 1)
    rollout = shop.commit(13)
    found = shop.ended(rollout)
    assert found["rollout"]["status"] == "rolled-back"
    (verdict,) = found["moves"]
    assert "fail more often" in verdict["reason"]
    assert verdict["evidence"]["errors_e"] > verdict["evidence"]["halt_e"]
    shop.all_have(before)
    assert 13 in shop.pilot.values
    assert 13 not in shop.general.values
    shown = shop.dev.holdfast("rollout", "show", rollout, "--plot", str(tmp_path / "r.png"))
    assert shown.returncode == 0, shown.stderr
    assert "rolled-back" in shown.stdout
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    watched = shop.dev.holdfast("rollout", "watch", rollout)
    assert watched.returncode == 1
    assert "fail more often" in watched.stderr


def test_one_consumer_that_refuses_it_takes_it_back(shop: Shop) -> None:
    shop.policy(600, 1)
    picky = Shopper(shop.dev, "general", 1, "nack")
    shop.shoppers.append(picky)
    eventually(lambda: picky.values, "its first value")
    found = shop.ended(shop.commit(14))
    assert found["rollout"]["status"] == "rolled-back"
    assert "[schema]" in found["rollout"]["verdict"]
    refused = shop.dev.holdfast("fleet", "--service", "shop")
    assert refused.returncode == 1
    assert "13 is no number of tiles" in refused.stdout
    picky.stop()


def test_with_the_gate_off_it_reaches_everybody(shop: Shop) -> None:
    """The damage: the same value, the same consumers, and nobody who looks."""
    shop.policy(2, 1, alpha=1e-300)
    found = shop.ended(shop.commit(13))
    assert found["rollout"]["status"] == "completed"
    shop.all_have(13)
