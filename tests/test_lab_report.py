"""What the lab shows: figures, report, the README's table, TensorBoard's logs, what the notebooks call."""

import dataclasses
import functools
import io
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import funcreg as fr
from experiments import cli, notebook
from experiments.errors import LabError
from experiments.harness import publish, records, registry, runner, tensorboard
from experiments.harness.context import Context
from experiments.report import charts, estimates, html, plots
from experiments.report.decisions import UNDECIDED, Verdict
from experiments.report.result import Claim, Result

from .lab import Fake, Point, fake, fill, good, reads, still, train, trains, use

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"


# Figures


def test_a_figure_of_few_colours_loses_nothing_to_the_eye() -> None:
    figure = still(good(Point(), Context()))["point"]
    content = plots.png(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144)
    drawn, kept = (np.asarray(Image.open(io.BytesIO(each)).convert("RGB"), dtype=int) for each in
                   (buffer.getvalue(), content))  # fmt: skip
    assert Image.open(io.BytesIO(content)).mode == "P"
    assert len(content) < len(buffer.getvalue())
    assert np.abs(drawn - kept).max() <= 16
    assert content == plots.png(still(good(Point(), Context()))["point"])


@pytest.mark.parametrize("members", [None, 3])
def test_a_history_is_drawn_in_one_call(members: int | None) -> None:
    shape = (5,) if members is None else (5, members)
    names = ("loss", "accuracy", "grad_norm", "learning_rate", "val_loss")
    history = {name: torch.rand(shape, generator=torch.Generator().manual_seed(1)) for name in names}
    figure = charts.learning_curves(history)
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "accuracy", "learning_rate"]
    drawn: dict[Any, Any] = {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}
    assert set(drawn) == {"training", "validation"}
    expected = history["val_loss"].double().reshape(5, -1).mean(1)
    np.testing.assert_allclose(drawn["validation"], np.stack((np.arange(1, 6), expected), 1))
    assert len(figure.axes[0].collections) == (0 if members is None else 2), "a band for each"
    assert len(charts.learning_curves(history, names=["accuracy"]).axes) == 1


def test_reliability_is_drawn_in_one_call() -> None:
    p = torch.tensor([[[0.9, 0.1], [0.4, 0.6]], [[0.7, 0.3], [0.2, 0.8]]])  # two members, two examples
    targets = torch.tensor([0, 0])
    curve = functools.partial(fr.uncertainty.reliability_curve, bins=2)
    members = [curve(each, targets) for each in p]
    stacked = torch.func.vmap(curve, (0, None))(p, targets)
    figure = charts.reliability({"one": members[0], "listed": members, "stacked": stacked}, caption="sure and right")
    above, below = figure.axes
    drawn: dict[Any, Any] = {line.get_label(): line.get_xydata() for line in above.get_lines()[1:]}
    np.testing.assert_allclose(drawn["one"], [[0.75, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(drawn["listed"], [[0.75, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(drawn["stacked"], drawn["listed"])
    assert above.get_ylabel() == "accuracy"
    assert below.get_xlabel() == "confidence"
    assert plots.caption_of(figure) == "sure and right"


def test_a_photograph_keeps_its_colours() -> None:
    figure, axes = plots.canvas(caption="every colour", height=3, width=3)
    levels = np.linspace(0, 1, 64)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(512, 512, 3)
    axes[0, 0].imshow(cube)
    assert Image.open(io.BytesIO(plots.png(figure))).mode == "RGB"


def test_an_animation_becomes_a_gif_that_repeats_and_rests_at_its_end(tmp_path: Path) -> None:
    record = runner.run(fake("moving", good), "quick", Context(), tmp_path)
    assert record["figures"] == {"path": {"file": "moving-path.gif", "caption": "a point that goes right"}}
    image: Any = Image.open(io.BytesIO((tmp_path / "figures" / "moving-path.gif").read_bytes()))
    assert image.n_frames == 3
    assert image.info["loop"] == 0
    assert image.size == (800, 360)
    pauses = []
    for index in range(3):
        image.seek(index)
        pauses.append(image.info["duration"])
    assert pauses == [600, 600, 2400]
    text = publish.build(tmp_path).read_text(encoding="utf-8")
    assert "data:image/gif;base64," in text
    assert 'width="800" height="360"' in text
    assert "a point that goes right</figcaption>" in text


# The report


def test_report_is_one_self_contained_page(lab: Any, tmp_path: Path) -> None:
    text = fill(tmp_path, *lab.values())
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert 'name="viewport"' in text
    assert text.index('id="verdicts"') < text.index('id="part-a"') < text.index('id="part-b"')
    anchors = re.findall(r'href="#([\w-]+)"', text)
    assert set(anchors) <= set(re.findall(r'id="([\w-]+)"', text))
    for tag in ("table", "section", "article", "details", "nav", "figure", "ul", "p", "div"):
        assert len(re.findall(rf"<{tag}[ >]", text)) == text.count(f"</{tag}>"), tag
    for name in lab:
        record = records.read_record(tmp_path / f"{name}.json")
        article = text.partition(f'<article id="{name}">')[2].partition("</article>")[0]
        assert record["question"] in article
        assert record["command"] in article
        assert record["hardware"]["cpu"] in article
        assert f"torch {record['versions']['torch']}" in article
        assert "1 ± 0" in article
        assert "-4.85 to 7.85" in article, "the interval of the numbers behind the claim"
        assert "data:image/png;base64" in article
        assert "<b>Data.</b> none" in article


def test_report_counts_by_part(tmp_path: Path) -> None:
    unclear = Claim("Perhaps.", "0.5", Verdict(UNDECIDED, "-1 to 2", True), {"n": 1})
    small = Claim("A little.", "0.1", Verdict(UNDECIDED, "-1 to 1: 2 is excluded", False), {"n": 1})

    def fails(settings: Point, context: Context) -> Result:
        return dataclasses.replace(good(settings, context), claims=[Claim("No.", "0", False, {"n": 1}), small, unclear])

    text = fill(tmp_path, fake("a", good, "A"), fake("b", fails, "B"), fake("c", good, "B"), fake("z", good, "?"))
    counts = text.partition('<table class="counts">')[2].partition("</table>")[0]
    rows = re.findall(r"<td>(.*?)</td>" * 6, counts)
    assert rows == [
        ("A. The regularization lab", "1", "1", "1", "0", "0"),
        ("B. Toy classification", "2", "4", "1", "1", "2"),
        ("Others", "1", "1", "1", "0", "0"),
        ("All", "4", "6", "3", "1", "2"),
    ]
    assert "3 confirmed, 1 refuted, 2 undecided (1 of them smaller than what is of interest)" in text
    assert "Still allowed: -1 to 2." in text
    refuted = text.partition('<section id="refuted">')[2].partition("</section>")[0]
    assert re.findall(r'<li><a href="#b">b</a>: <b>(.*?)</b><br>(.*?)</li>', refuted) == [("No.", "0")]
    assert refuted.count("<li>") == 1
    undecided = text.partition('<section id="undecided">')[2].partition("</section>")[0]
    shown = re.findall(r"<p>(\w+)[^<]*, (\d): .*?</p>.*?<b>(.*?)</b>.*?Still allowed: (.*?)\.<", undecided, re.DOTALL)
    assert shown == [("Open", "1", "Perhaps.", "-1 to 2"), ("Smaller", "1", "A little.", "-1 to 1: 2 is excluded")]
    assert undecided.count("<li>") == 2


def test_a_refuted_claim_that_goes_on_from_others_is_shown_after_them(tmp_path: Path) -> None:
    texts = {"It helps": True, "So it does later": True, "(b) ... and again": False, "Somewhere it hurts": False}
    texts["That of dropout hurts too"] = False
    claims = [Claim(text, "0", verdict, {"n": 1}) for text, verdict in texts.items()]

    def fails(settings: Point, context: Context) -> Result:
        return dataclasses.replace(good(settings, context), claims=[Claim("Noise helps", "0", True, {"n": 1}), *claims])

    text = fill(tmp_path, fake("b", fails)).partition('<section id="refuted">')[2].partition("</section>")[0]
    assert re.findall(r"</a>: (.*?)<br>", text) == [
        "Noise helps. <b>(b) ... and again</b>",
        "<b>Somewhere it hurts</b>",
        "Somewhere it hurts. <b>That of dropout hurts too</b>",
    ]


def test_a_short_logarithmic_axis_has_2_and_5() -> None:
    def labels(high: float) -> set[str]:
        figure, axes = plots.canvas(caption="")
        axes[0, 0].set(xscale="log", xlim=(1, high))
        plots.counting(axes[0, 0].xaxis)
        figure.canvas.draw()
        shown = {each.get_text() for each in axes[0, 0].get_xticklabels(which="both")} - {""}
        return {each for each in shown if 1 <= float(each) <= high}

    assert labels(10) == {"1", "2", "5", "10"}
    assert labels(100) == {"1", "10", "100"}


def test_report_says_which_presets_and_data(tmp_path: Path) -> None:
    text = fill(tmp_path, fake("a", good))
    assert "preset <b>quick</b>, run on a CPU" in text
    assert "The preset <b>full</b>, much of which is meant for a GPU, was <b>not run</b>." in text
    assert "different presets" not in text
    text = fill(tmp_path, fake("b", reads), fake("c", good), preset="smoke")
    assert "run with different presets" in text
    assert 'quick: <a href="#a">a</a>' in text
    assert "The preset <b>smoke</b> shows that the code runs" in text
    assert 'on what stands in for it: <a href="#b">b</a>' in text
    text = fill(tmp_path, fake("a", good), fake("b", good), fake("c", good), preset="full")
    assert "All with the preset <b>full</b>, on a CPU." in text
    assert "not run" not in text
    assert "stands in" not in text


def test_report_escapes_text(tmp_path: Path) -> None:
    def tricky(settings: Point, context: Context) -> Result:
        return Result({"x": [1.0]}, [Claim("<b> & </b>", "1 < 2", False, {"<i>": 1})], [], ["<script>"])

    text = fill(tmp_path, fake("tricky", tricky))
    assert "<script>" not in text
    assert "<i>" not in text
    assert "&lt;b&gt; &amp; &lt;/b&gt;" in text
    assert "✗ refuted" in text


def test_report_is_rebuilt_from_json(lab: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, *lab.values())
    (tmp_path / "foreign.json").write_text("[1, 2]")
    (tmp_path / "half.json").write_text('{"format": "funcreg-exp')
    (tmp_path / "old.json").write_text('{"format": "funcreg-experiment/1"}')
    pictures = {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    before = records.read_records(tmp_path)
    for path in pictures:
        path.unlink()
    capsys.readouterr()
    assert cli.main(["report", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "foreign.json is not the record" in shown.err
    assert "half.json" in shown.err
    assert "old.json is of another version of the lab" in shown.err
    assert shown.out == f"report: {tmp_path / 'report.html'}\n"
    assert records.read_records(tmp_path) == before
    assert {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == pictures


def test_report_of_a_record_that_the_code_has_outgrown(
    lab: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, fake("first", good), fake("retired", good))
    path = tmp_path / "first.json"
    records.write_record(path, {**records.read_record(path), "values": {"y": [1.0]}})
    (tmp_path / "figures" / "retired-point.png").unlink()
    assert cli.main(["report", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().err
    assert "first: its figures could not be drawn again (KeyError: 'x')" in shown
    assert "retired: no longer an experiment" in shown
    assert "is missing" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_numbers_are_shown_with_n_and_sd() -> None:
    numbers = {
        "difference": [estimates.estimate([1.0, 2.0, 3.0])._asdict(), estimates.estimate([4.0])._asdict()],
        "many": list(range(40)),
        "at_the_end": 0.25,
        "absent": None,
    }
    shown = html.piece("numbers", {"claims": [{"text": "It is.", "numbers": numbers}]})
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", shown)]
    assert rows[1:] == [
        ["difference / 1", "2", "1", "-0.484 to 4.48", "3"],
        ["difference / 2", "4", "", "", "1"],
        ["many", "40 numbers, 0 to 39", "", "", ""],
        ["at the end", "0.25", "", "", ""],
        ["absent", "", "", "", ""],
    ]


# The table of verdicts


def test_table_has_a_row_for_each_experiment(lab: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def piped(settings: Point, context: Context) -> Result:
        return dataclasses.replace(good(settings, context), claims=[Claim("|x|", "a\nb", False, {"n": 1})])

    Fake.mains["second"] = piped
    fill(tmp_path, *lab.values())
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert cli.main(["report", "--table", "--out", str(tmp_path)]) == 0
    *rows, empty, last = capsys.readouterr().out.splitlines()
    assert not empty
    assert last.startswith("3 claims in 3 experiments: 2 confirmed, 1 refuted, 0 undecided, in 0 minutes on ")
    assert rows == [
        "| experiment | question | its first claim, and what was measured | ✓ / ✗ / ? | preset |",
        "|---|---|---|---|---|",
        "| **A. The regularization lab** | | | | |",
        "| [`first`](../questions/first.py) | Is it first? | ✓ It is.<br>1 ± 0 | 1 / 0 / 0 | quick |",
        r"| [`second`](../questions/second.py) | Is it second? | ✗ \|x\|<br>a b | 0 / 1 / 0 | quick |",
        "| **B. Toy classification** | | | | |",
        "| [`third`](../questions/third.py) | Is it third? | ✓ It is.<br>1 ± 0 | 1 / 0 / 0 | quick |",
    ]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_readme_of_the_results_has_the_table_of_the_committed_records() -> None:
    readme = (RESULTS / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- results -->\n(.*?)\n<!-- /results -->", readme, flags=re.DOTALL)
    assert found is not None
    assert found[1].strip() == publish.table(RESULTS), "python -m experiments report --table --out experiments/results"


# Logs for TensorBoard


class Writer:
    """What torch's SummaryWriter is asked to write, by folder."""

    written: dict[str, list[tuple[str, float, int]]] = {}  # noqa: RUF012  (a test's record)
    closed = 0

    def __init__(self, log_dir: str) -> None:
        self.curves = self.written.setdefault(log_dir, [])

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.curves.append((tag, value, step))

    def close(self) -> None:
        Writer.closed += 1


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> type[Writer]:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))  # type: ignore[arg-type]
    Writer.written, Writer.closed = {}, 0
    return Writer


def test_every_fit_is_logged(lab: Any, writer: type[Writer], tmp_path: Path) -> None:
    Fake.mains["second"] = trains
    assert cli.main(["run", "all", "--quiet", "--tensorboard", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "tensorboard" / "second"
    assert list(writer.written) == [str(folder / fit) for fit in "123"]
    assert writer.closed == 3
    one, two, nine = ([tag for tag, _, step in each if step == 3] for each in writer.written.values())
    names = ["loss", "grad_norm", "param_norm", "learning_rate"]
    assert one == names
    assert two == [f"{name}/{member}" for name in names for member in "01"]
    assert nine == [f"{name}/{part}" for name in names for part in ("mean", "sd")]
    losses = {(tag, step): value for tag, value, step in writer.written[str(folder / "1")]}
    assert losses["loss", 1] == 1.0
    assert losses["loss", 2] == pytest.approx(0.64)


def test_an_experiments_own_on_epoch_is_called_too(writer: type[Writer], tmp_path: Path) -> None:
    seen: list[int] = []
    context = Context(logs=tensorboard.Logs(tmp_path))
    result = train(context, on_epoch=lambda epoch: seen.append(epoch.number))
    assert seen == [1, 2, 3]
    assert len(writer.written[str(tmp_path / "1")]) == 12
    alone = train(Context(), on_epoch=lambda epoch: seen.append(epoch.number))
    assert len(seen) == 6
    torch.testing.assert_close(alone.history, result.history)


def test_logs_close_when_a_fit_breaks(writer: type[Writer], tmp_path: Path) -> None:
    def breaks(epoch: fr.train.Epoch) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(Context(logs=tensorboard.Logs(tmp_path)), on_epoch=breaks)
    assert writer.closed == 1


def test_without_tensorboard_its_logs_are_refused(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # type: ignore[arg-type]
    assert cli.main(["run", "all", "--tensorboard", "--out", str(tmp_path / "out")]) == 2
    assert "pip install tensorboard" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_logs_that_cannot_be_written(
    lab: Any, writer: type[Writer], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(log_dir: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules["torch.utils.tensorboard"], "SummaryWriter", full)
    Fake.mains["second"] = trains
    assert cli.main(["run", "all", "--quiet", "--tensorboard", "--out", str(tmp_path)]) == 2
    assert "tensorboard/second: No space left on device" in capsys.readouterr().err.replace(os.sep, "/")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_tensorboard_reads_the_logs(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _ in range(2):  # the second run's logs replace the first's
        train(Context(logs=tensorboard.Logs(tmp_path)), members=2)
    (events,) = (tmp_path / "1").iterdir()
    reader = accumulators.EventAccumulator(str(events))
    reader.Reload()
    assert [event.step for event in reader.Scalars("loss/1")] == [1, 2, 3]
    assert reader.Scalars("loss/0")[0].value == 1.0


# What the notebooks call


def test_notebooks_run_and_show(lab: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FUNCREG_PRESET", "full")
    run = notebook.run("first")
    assert capsys.readouterr().out == "data: none\nsettings: size = 3\n"
    assert run.result.values["x"] == [1.0, 1.0, 1.0]
    assert notebook.run("first", size=2).settings == Point(2)
    assert "✓ confirmed" in run.claims()._repr_html_()
    assert "<table>" in run.tables()._repr_html_()
    picture: Any = run.figure("point")
    assert picture._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(LabError, match="there is no figure 'line'; there are point"):
        run.figure("line")
    monkeypatch.setenv("FUNCREG_PRESET", "huge")
    with pytest.raises(LabError, match="FUNCREG_PRESET is 'huge'"):
        notebook.run("first")


def test_notebooks_show_what_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    found = use(fake("moving", good))
    monkeypatch.setattr(registry, "experiments", lambda: found)
    shown: Any = notebook.run("moving").figure("path")
    assert "data:image/gif;base64," in shown._repr_html_()


def test_figures_are_drawn_without_pyplot() -> None:
    assert isinstance(still(good(Point(), Context()))["point"], Figure)
    assert "matplotlib.pyplot" not in sys.modules
