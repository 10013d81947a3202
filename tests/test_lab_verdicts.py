"""Verdicts: which side of a claim an interval lies on; and that looking again does not make more of them wrong."""

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments import cli
from experiments.harness import records
from experiments.harness.context import Context
from experiments.report.claims import is_larger
from experiments.report.decisions import CONFIRMED, OUTCOMES, REFUTED, UNDECIDED, Verdict, every, exactly
from experiments.report.estimates import Estimate, estimate
from experiments.report.looks import looks, schedule
from experiments.report.result import Claim, Result
from experiments.report.verdicts import tally

from .lab import Fake, Point, good, still

RESULTS = Path(cli.__file__).parent / "results"


def interval(low: float, high: float, n: int = 9) -> Estimate:
    return Estimate((low + high) / 2, 1.0, low, high, n)


@pytest.mark.parametrize(
    ("low", "high", "above", "below"),
    [
        (0.1, 0.5, CONFIRMED, REFUTED),
        (-0.5, -0.1, REFUTED, CONFIRMED),
        (-0.1, 0.5, UNDECIDED, UNDECIDED),
        (0.0, 0.0, REFUTED, REFUTED),  # exactly none
        (math.nan, math.nan, UNDECIDED, UNDECIDED),
    ],
)
def test_the_side_of_an_interval(low: float, high: float, above: str, below: str) -> None:
    assert interval(low, high).above().outcome == above
    assert interval(low, high).below().outcome == below
    assert interval(low + 7, high + 7).above(7).outcome == above


def test_between_two_bounds() -> None:
    assert interval(-0.1, 0.1).within(-1, 1).outcome == CONFIRMED
    assert interval(2, 3).within(-1, 1).outcome == interval(-3, -2).within(-1, 1).outcome == REFUTED
    assert interval(0, 3).within(-1, 1).outcome == interval(-2, 2).within(-1, 1).outcome == UNDECIDED


def test_an_undecided_claim_says_what_its_interval_allows() -> None:
    assert interval(-0.5, 2.0).above() == Verdict(UNDECIDED, "-0.5 to 2", True)
    unsure = interval(-0.5, 2.0).above(smallest=1.0)
    assert unsure.open
    assert unsure.allows == "-0.5 to 2: the smallest effect of interest, 1, is not excluded"
    for excluded in (interval(-3.0, 0.5).above(smallest=1.0), interval(-0.5, 3.0).below(smallest=1.0)):
        assert excluded.outcome == UNDECIDED
        assert not excluded.open, "more members are of no use"
        assert excluded.allows.endswith("the smallest effect of interest, 1, is excluded")
    assert interval(0.1, 0.2).above(smallest=1.0).outcome == CONFIRMED, "however small"


def test_a_single_member_decides_nothing() -> None:
    assert estimate([3.0]).above().outcome == UNDECIDED
    assert estimate([3.0]).above().open


def test_a_claim_of_several_things() -> None:
    yes, no, perhaps = exactly(True), exactly(False), Verdict(UNDECIDED, "-1 to 2", True)
    assert (yes & yes).outcome == (yes & True).outcome == (True & yes).outcome == CONFIRMED
    assert (perhaps & no).outcome == (perhaps & False).outcome == every([yes, perhaps, no]).outcome == REFUTED
    assert yes & perhaps == perhaps
    assert every([perhaps, perhaps._replace(allows="0 to 1", open=False)]) == Verdict(
        UNDECIDED, "-1 to 2; 0 to 1", True
    )


def test_a_claim_keeps_its_verdict_in_the_record() -> None:
    claims = [
        Claim("It is so.", "1 = 1", True, {"n": 1}),
        Claim("Exactly.", "1 = 2", np.bool_(False), {"n": 1}),  # type: ignore[arg-type]
        is_larger("It is larger.", [1.0, 2.0], [2.0, 1.0], "{difference}"),
    ]
    record = Result({"x": [1.0]}, claims).to_json()
    assert [each["verdict"] for each in record["claims"]] == list(OUTCOMES)
    assert json.loads(json.dumps(record)) == record
    assert [each.verdict for each in Result.from_json(record).claims] == [each.verdict for each in claims]


def test_the_tally_says_which_undecided_effects_are_too_small_to_matter() -> None:
    verdicts = [interval(-1, 2).above(), interval(-1, 2).above(smallest=3), exactly(True), exactly(False)]
    claims = [Claim("It is.", "1", verdict, {"n": 1}) for verdict in verdicts]
    told = tally([Result({"x": [1.0]}, claims).to_json()])
    assert told == (
        "4 claims in 1 experiment: 1 confirmed, 1 refuted, 2 undecided (1 of them smaller than what is of interest)"
    )


# Looking again


def test_intervals_of_several_looks_are_students_with_its_error_shared() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    with looks(4):
        found = estimate(values)
        corrected = estimate(values, comparisons=5)
    assert found[2:4] == pytest.approx(stats.t.interval(1 - 0.05 / 5, 3, loc=3.75, scale=stats.sem(values)))
    assert corrected[2:4] == pytest.approx(stats.t.interval(1 - 0.05 / 25, 3, loc=3.75, scale=stats.sem(values)))
    assert estimate(values)[2:4] == pytest.approx(stats.t.interval(0.95, 3, loc=3.75, scale=stats.sem(values)))


def decided(values: np.ndarray, counts: list[int], share: float) -> np.ndarray:
    """Of each row, whether at some look 0 lies outside Student's interval that leaves out so much."""
    found = np.zeros(len(values), dtype=bool)
    for n in counts:
        some = values[:, :n]
        found |= np.abs(some.mean(axis=1)) > stats.t.isf(share / 2, n - 1) * stats.sem(some, axis=1)
    return found


@pytest.mark.parametrize(("first", "limit"), [(5, 80), (16, 256), (64, 512)])
def test_of_2_000_runs_without_an_effect_at_most_5_percent_are_decided(first: int, limit: int) -> None:
    counts = schedule(first, limit)
    values = np.random.default_rng(0).standard_normal((2_000, limit))
    share = 0.05 / (len(counts) + 1)
    assert decided(values, counts, share).mean() <= 0.05
    assert decided(values, counts, 0.05).mean() > 0.08, "without the rule more of them are: the simulation sees it"

    # The rule that the lab uses is that one.
    with looks(len(counts)):
        for row, wrong in zip(values[:200], decided(values[:200], counts, share), strict=True):
            assert any(estimate(row[:n]).above().outcome != UNDECIDED for n in counts) == wrong


def test_a_record_that_is_taken_up_again_errs_a_little_more() -> None:
    values = np.random.default_rng(0).standard_normal((20_000, 20))
    alone, later = decided(values, [5], 0.05), decided(values, [20], 0.05 / 3)
    assert alone.mean() == pytest.approx(0.05, abs=0.005)
    assert (alone | later).mean() == pytest.approx(0.063, abs=0.003), "as looks.py says"


def test_what_there_is_is_found_with_more_members() -> None:
    counts = schedule(16, 128)
    values = 0.4 + np.random.default_rng(1).standard_normal((500, 128))
    assert decided(values[:, :16], [16], 0.05).mean() < 0.5
    assert decided(values, counts, 0.05 / (len(counts) + 1)).mean() > 0.95


@dataclasses.dataclass(frozen=True)
class Seeds:
    seeds: int = 4
    size: int = 1


def test_a_run_takes_more_members_until_its_claims_are_decided(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts: list[int] = []
    noise = np.random.default_rng(0).standard_normal(256)
    effect, smallest = 0.5, 0.1

    def main(settings: Seeds, context: Context) -> Result:
        counts.append(settings.seeds)
        zeros = [0.0] * settings.seeds
        claim = is_larger("It is.", effect + noise[: settings.seeds], zeros, "{difference}", smallest=smallest)
        return dataclasses.replace(good(Point(), context), claims=[claim])

    presets = {name: Seeds() for name in ("smoke", "quick", "full")}
    module = SimpleNamespace(PRESETS=presets, main=main, figures=still)
    monkeypatch.setattr(Fake, "load", lambda self: module)
    command = ["run", "first", "--quiet", "--out", str(tmp_path)]

    def record() -> dict[str, Any]:
        assert cli.main([*command, "--members", "256"]) == 0
        return records.read_record(tmp_path / "first.json")

    found = record()
    assert counts == [4, 16, 64]
    assert found["claims"][0]["verdict"] == CONFIRMED
    assert found["settings"]["seeds"] == found["claims"][0]["numbers"]["difference"]["n"] == 64
    assert (found["looks"], found["members_up_to"]) == (4, 256)
    assert found["command"] == "python -m experiments run first --members 256"
    with looks(4):
        assert found["claims"][0]["numbers"]["difference"]["low"] == pytest.approx(estimate(effect + noise[:64]).low)
    assert "intervals hold at all of 4 looks" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert cli.main([*command, "--members", "256", "--resume"]) == 0
    assert counts == [4, 16, 64], "it is the same request"

    counts.clear()
    effect = 0.0
    assert record()["claims"][0]["verdict"] == UNDECIDED
    assert counts == [4, 16, 64, 256], "as many as allowed"
    counts.clear()
    smallest = 5.0
    assert record()["claims"][0]["allows"].endswith("5, is excluded")
    assert len(counts) < 4, "what is sure to be too small needs no more"

    # An effect that is sure to be small is taken up again, by the limits of as many looks.
    effect, small = 0.4, dict(record())
    assert small["looks"] == 4
    counts.clear()
    assert cli.main([*command, "--members", "256", "--at-once"]) == 0
    found = records.read_record(tmp_path / "first.json")
    assert counts == [256]
    assert (found["looks"], found["at_once"], found["claims"][0]["verdict"]) == (4, True, CONFIRMED)
    with looks(4):
        assert found["claims"][0]["numbers"]["difference"]["low"] == pytest.approx(estimate(effect + noise).low)
    assert found["command"] == "python -m experiments run first --members 256 --at-once"
    assert "at once to 256; intervals hold at all of 4 looks" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert cli.main([*command, "--members", "256", "--at-once", "--resume"]) == 0
    assert counts == [256], "it is the same request"
    assert cli.main([*command, "--members", "256", "--resume"]) == 0
    assert len(counts) > 1, "it is another"

    capsys.readouterr()
    counts.clear()
    assert cli.main([*command, "--at-once"]) == 2
    assert "Give both" in capsys.readouterr().err
    assert cli.main([*command, "--members", "3"]) == 2
    assert "--members 3: first has 4 from the first" in capsys.readouterr().err
    module.PRESETS = {name: Point() for name in presets}
    assert cli.main([*command, "--members", "8"]) == 2
    assert "first: cannot take more members" in capsys.readouterr().err
    assert not counts, "nothing runs that cannot do what is asked"
    with pytest.raises(SystemExit):
        cli.main([*command, "--members", "none"])


# What is committed


def test_every_undecided_claim_of_the_committed_records_says_what_is_still_possible() -> None:
    for path in RESULTS.glob("*.json"):
        for claim in json.loads(path.read_text(encoding="utf-8")).get("claims", []):
            assert claim["verdict"] in OUTCOMES
            assert bool(claim["allows"]) == (claim["verdict"] == UNDECIDED), f"{path.stem}: {claim['text']}"
