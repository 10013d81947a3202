"""The lab: its command line, its data, its records and report, and every experiment at smoke size."""

import dataclasses
import doctest
import io
import json
import os
import re
import struct
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats
from torch import Tensor

import funcreg as fr
from experiments import cli, data, estimates, plots, registry, report, results, runner
from experiments.context import Context
from experiments.data import images as image_loaders
from experiments.errors import LabError
from experiments.registry import Experiment
from experiments.results import Claim, Result, Table

NAMES = sorted(registry.experiments())
FOLDER = Path(cli.__file__).parent
REAL = os.environ.get("FUNCREG_DATA")  # read before the tests put it aside


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All experiments at smoke size, run once by the command line on embedded data."""
    out = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FUNCREG_DATA", raising=False)
        assert cli.main(["run", "all", "--preset", "smoke", "--quiet", "--out", str(out)]) == 0
    return out


@pytest.fixture(autouse=True)
def _no_real_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUNCREG_DATA", raising=False)


# The experiments


def test_the_rows_of_the_lab_are_there() -> None:
    assert {"mc-dropout", "weight-penalties", "dropout", "batch-norm", "dropout-vs-l2"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_header_says_question_command_runtime_and_measured_answer(name: str) -> None:
    experiment = registry.experiments()[name]
    assert experiment.question.endswith("?")
    assert experiment.command.startswith(f"python -m experiments run {name}")
    assert re.search(r"\d+ s", experiment.runtime)
    assert re.search(r"n = \d+", experiment.answer), "an answer says of how many"


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_frozen_settings(name: str) -> None:
    module = registry.experiments()[name].load()
    assert set(module.PRESETS) == set(cli.PRESETS)
    for settings in module.PRESETS.values():
        assert dataclasses.is_dataclass(type(settings))
        with pytest.raises(dataclasses.FrozenInstanceError):
            settings.anything = 1


@pytest.mark.parametrize("name", NAMES)
def test_experiments_are_functional(name: str) -> None:
    source = (FOLDER / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    compares = {"weight-penalties"}  # with torch.optim
    assert not re.search(r"\.(train|eval)\(\)", source)
    assert not re.search(r"for .* in range\(.*epochs", source), "the loop is fr.train.fit's"
    assert name in compares or not re.search(r"\.backward\(|torch\.optim", source)


@pytest.mark.parametrize("name", NAMES)
def test_record_is_complete(name: str, finished: Path) -> None:
    record = results.read_record(finished / f"{name}.json")
    assert record["name"] == name
    assert record["command"] == f"python -m experiments run {name} --preset smoke"
    assert record["settings"] == results.plain(registry.experiments()[name].load().PRESETS["smoke"])
    assert {"python", "torch", "funcreg"} <= set(record["versions"])
    assert record["hardware"]["cpu"]
    assert record["hardware"]["threads"] == torch.get_num_threads()
    assert record["seed"] == 0
    assert record["seconds"] > 0
    assert record["values"]
    assert record["data"]
    assert len(record["claims"]) >= 3
    for claim in record["claims"]:
        assert claim["verdict"] == ("confirmed" if claim["confirmed"] else "not confirmed")
        assert re.search(r"\d", claim["measured"]), "a verdict has its numbers"
        assert claim["numbers"]


@pytest.mark.parametrize("name", NAMES)
def test_figures_come_from_the_record_alone(name: str, finished: Path) -> None:
    record = json.loads((finished / f"{name}.json").read_text(encoding="utf-8"))
    figures = registry.experiments()[name].load().figures(Result.from_json(record))
    assert set(figures) == set(record["figures"])
    for figure_name, figure in figures.items():
        assert len(str(figure.get_label())) > 30, "a caption"
        assert (finished / "figures" / f"{name}-{figure_name}.png").read_bytes().startswith(b"\x89PNG")
        for axes in figure.axes:
            if axes.has_data() and not axes.images and axes.get_label() != "<colorbar>":
                assert axes.get_xlabel() or axes.get_shared_x_axes().get_siblings(axes) != [axes]


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_result(name: str, finished: Path) -> None:
    module = registry.experiments()[name].load()
    again = module.main(module.PRESETS["smoke"], Context(seed=0)).to_json()
    record = results.read_record(finished / f"{name}.json")
    assert again["values"] == record["values"]
    assert again["claims"] == record["claims"]


def test_another_seed_gives_another_result(finished: Path) -> None:
    module = registry.experiments()["dropout-vs-l2"].load()
    other = module.main(module.PRESETS["smoke"], Context(seed=1)).to_json()
    assert other["values"] != results.read_record(finished / "dropout-vs-l2.json")["values"]


def test_claims_that_are_mathematics_are_confirmed_even_at_smoke_size(finished: Path) -> None:
    for name in ("dropout", "weight-penalties"):
        record = results.read_record(finished / f"{name}.json")
        assert all(claim["confirmed"] for claim in record["claims"]), name


@pytest.mark.skipif(REAL is None, reason="FUNCREG_DATA names no folder with real data")
def test_on_real_digits_entropy_rises_as_they_turn(tmp_path: Path) -> None:
    command = ["run", "mc-dropout", "--preset", "smoke", "--quiet", "--data-root", str(REAL), "--out", str(tmp_path)]
    assert cli.main(command) == 0
    record = results.read_record(tmp_path / "mc-dropout.json")
    assert record["data"][0].startswith("MNIST: 60,000 training and 10,000 test images")
    (claim,) = (each for each in record["claims"] if each["text"].startswith("Predictive entropy rises"))
    # Two members are too few for the claim's interval, so only the direction is asserted.
    assert all(each["mean"] > 0 for each in claim["numbers"]["difference"]), claim["measured"]


# The command line


def test_list_shows_each_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    shown = capsys.readouterr().out
    for name, experiment in registry.experiments().items():
        assert name in shown
        assert experiment.question[:40] in shown
        assert experiment.runtime in shown


def test_run_prints_verdicts_and_where_the_report_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "dropout", "--preset", "smoke", "--quiet", "--seed", "3", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "confirmed" in shown
    assert f"report: {tmp_path / 'report.html'}" in shown
    record = results.read_record(tmp_path / "dropout.json")
    assert record["seed"] == 3
    assert record["command"].endswith("--preset smoke --seed 3")


def test_progress_bar_is_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "dropout", "--preset", "smoke", "--out", str(tmp_path)]) == 0
    shown = capfd.readouterr()
    assert "1/1" in shown.err
    assert "1/1" not in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "mc-dropuot"], "Did you mean mc-dropout"),
        (["run", "zzz"], "There are: batch-norm"),
        (["run", "dropout", "--data-root", "/no/such/folder"], "/no/such/folder does not exist"),
        (["run", "dropout", "--data-root", __file__], "is a file"),
        (["run", "dropout", "--data-root", str(Path(__file__).parent)], "has none of MNIST/raw"),
        (["run", "dropout", "--device", "warp"], "--device warp"),
        (["run", "dropout", "--out", f"{__file__}/results"], "cannot write"),
        (["report", "--out", "/no/such/folder"], "has no results"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = [] if "--out" in arguments or arguments[0] == "report" else ["--out", str(tmp_path / "out")]
    assert cli.main([*arguments, *out]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["run", "dropout", "--device", "cuda", "--out", str(tmp_path)]) == 2
    assert "finds no CUDA GPU" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "x", "1.5", str(2**63)])
def test_seed_is_an_integer(seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main(["run", "dropout", "--seed", seed])
    assert exit.value.code == 2
    assert "is not an integer" in capsys.readouterr().err


def test_names_may_be_spelt_as_files_and_are_run_once() -> None:
    assert [each.name for each in registry.choose(["mc_dropout", "mc-dropout"])] == ["mc-dropout"]
    assert [each.name for each in registry.choose(["all", "dropout"])] == NAMES


def test_data_root_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUNCREG_DATA", str(tmp_path / "absent"))
    with pytest.raises(LabError, match="FUNCREG_DATA"):
        data.data_root()
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    assert data.data_root(str(tmp_path)).path == tmp_path  # the option comes first
    with pytest.raises(LabError, match=f"Did you mean {tmp_path}"):
        data.data_root(str(tmp_path / "MNIST"))


# Running and keeping


class Fake(Experiment):
    """An experiment whose main is given, by name."""

    mains: dict[str, Any] = {}  # noqa: RUF012  (a test's registry)

    def load(self) -> Any:
        def figures(result: Result) -> dict[str, Figure]:
            figure, axes = plots.canvas(caption="one point")
            axes[0, 0].plot(result.values["x"], "o")
            return {"point": figure}

        return SimpleNamespace(PRESETS={"quick": Point()}, main=Fake.mains[self.name], figures=figures)


@dataclasses.dataclass(frozen=True)
class Point:
    size: int = 1


def fake(name: str, main: Any) -> Fake:
    Fake.mains[name] = main
    return Fake(name, "Is it?", "A", "", "0 s", "")


def good(settings: Point, context: Context) -> Result:
    return Result(
        {"x": torch.ones(settings.size)},
        [Claim("It is.", "1", True, {"n": 1})],
        [Table("T", ("a",), [(1.0,)])],
        ["none"],
    )


def interrupted(settings: Point, context: Context) -> Result:
    raise KeyboardInterrupt


def broken(settings: Point, context: Context) -> Result:
    raise ZeroDivisionError("a bug")


def test_interruption_keeps_what_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [fake("first", good), fake("second", interrupted), fake("third", good)]
    assert runner.run_all(chosen, "quick", Context(), tmp_path) == 130
    assert "1 of 3 finished and kept" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "first.json", "report.html"]


def test_one_that_breaks_does_not_cost_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [fake("first", broken), fake("second", good)]
    assert runner.run_all(chosen, "quick", Context(), tmp_path) == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError: a bug" in shown
    assert "first broke" in shown
    assert (tmp_path / "second.json").exists()
    assert not (tmp_path / "first.json").exists()


def test_interrupted_fit_ends_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fr.train, "fit", lambda *a, **k: SimpleNamespace(interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        Context().fit()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    results.write_atomically(path, b"old")

    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises((LabError, KeyboardInterrupt)):
        results.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_plain_makes_json_of_everything() -> None:
    value = {
        "tensor": torch.tensor([[0.1, float("inf")]]),
        "double": torch.tensor(1 / 3, dtype=torch.float64),
        "named": estimates.Estimate(1.0, 0.0, 1.0, 1.0, 1),
        "settings": Point(2),
        "tuple": (True, None, "text", torch.tensor(3)),
        4: float("nan"),
    }
    found = results.plain(value)
    assert found["tensor"] == [[0.1, None]]
    assert found["double"] == 0.333333333333
    assert found["named"]["mean"] == 1.0
    assert found["settings"] == {"size": 2}
    assert found["tuple"] == [True, None, "text", 3]
    assert found["4"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    with pytest.raises(TypeError, match="set"):
        results.plain({1, 2})


def test_result_survives_its_json(tmp_path: Path) -> None:
    result = good(Point(2), Context())
    results.write_record(tmp_path / "r.json", {"format": results.FORMAT, **result.to_json()})
    again = Result.from_json(results.read_record(tmp_path / "r.json"))
    assert again.to_json() == result.to_json()


def test_intervals_are_students() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    found = estimates.estimate(values)
    low, high = stats.t.interval(0.95, 3, loc=3.75, scale=stats.sem(values))
    assert found == pytest.approx((3.75, 3.0957, low, high, 4), abs=1e-4)
    assert estimates.estimate([2.0])[2:] == (2.0, 2.0, 1)


@pytest.mark.parametrize("module", [estimates, results])
def test_examples(module: Any) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    outcome = doctest.testmod(module, extraglobs={"torch": torch}, optionflags=flags)
    assert outcome.attempted
    assert not outcome.failed


# The report


def test_report_is_one_self_contained_page(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "<script" not in page
    assert "@import" not in page
    assert 'name="viewport"' in page
    for name in NAMES:
        record = results.read_record(finished / f"{name}.json")
        assert f'<section id="{name}">' in page
        assert record["command"] in page
        assert page.count("data:image/png;base64") >= len(record["figures"])
        for claim in record["claims"]:
            assert page.count(claim["measured"].replace("&", "&amp;").replace("<", "&lt;").replace("'", "&#x27;")) == 2
    assert page.index("<h2>Verdicts</h2>") < page.index("<section id=")
    assert page.count("<table") == page.count("</table>")


def test_report_escapes_text(tmp_path: Path) -> None:
    def tricky(settings: Point, context: Context) -> Result:
        return Result({"x": [1.0]}, [Claim("<b> & </b>", "1 < 2", False)], [], ["<script>"])

    runner.run_all([fake("tricky", tricky)], "quick", Context(), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;b&gt; &amp; &lt;/b&gt;" in page
    assert "not confirmed" in page


def test_report_is_rebuilt_from_json(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = finished / "dropout-vs-l2.json"
    (tmp_path / record.name).write_bytes(record.read_bytes())
    (tmp_path / "foreign.json").write_text("[1, 2]")
    (tmp_path / "half.json").write_text('{"format": "funcreg-exp')
    assert cli.main(["report", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "foreign.json is not the record" in shown.err
    assert "half.json" in shown.err
    assert report.read(tmp_path) == [results.read_record(record)]
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == sorted(path.name for path in (finished / "figures").glob("dropout-vs-l2-*"))


def test_report_of_a_record_that_the_code_has_outgrown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner.run_all([fake("dropout", good)], "quick", Context(), tmp_path)  # a name that exists, values that do not fit
    runner.run_all([fake("retired", good)], "quick", Context(), tmp_path)
    (tmp_path / "figures" / "retired-point.png").unlink()
    assert cli.main(["report", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().err
    assert "dropout: its figures could not be drawn again" in shown
    assert "retired: no longer an experiment" in shown
    assert "is missing" in (tmp_path / "report.html").read_text(encoding="utf-8")


# Data


def test_digits_stand_in_for_mnist_and_say_so() -> None:
    images = data.mnist(data.DataRoot())
    assert images.x.shape == (1297, 1, 28, 28)
    assert images.test_x.shape == (500, 1, 28, 28)
    assert float(images.x.min()) >= 0
    assert float(images.x.max()) <= 1
    assert "in place of MNIST" in images.source
    assert "no data root was given" in images.source
    assert torch.bincount(images.test_y).min() > 30, "shuffled: every class is in the test set"
    assert torch.equal(images.x, data.mnist(data.DataRoot()).x)
    assert len(images.take(10, 5).x) == 10


def write_mnist(root: Path, train: int = 30, test: int = 20) -> Tensor:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = fr.random.randint(fr.random.key(0), (train + test, 28, 28), 0, 256).to(torch.uint8)
    for name, part in (("train", pixels[:train]), ("t10k", pixels[train:])):
        header = struct.pack(">IIII", 0x00000803, len(part), 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + part.numpy().tobytes())
        labels = bytes(i % 10 for i in range(len(part)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x00000801, len(part)) + labels)
    return pixels


def test_mnist_is_read_from_a_data_root(tmp_path: Path) -> None:
    pixels = write_mnist(tmp_path)
    images = data.mnist(data.data_root(str(tmp_path)))
    assert images.x.shape == (30, 1, 28, 28)
    assert images.source == "MNIST: 30 training and 20 test images of 28x28, from the data root"
    shuffled = fr.random.permutation(fr.random.key(0), 30)
    torch.testing.assert_close(images.x[:, 0], pixels[:30][shuffled] / 255)
    assert torch.equal(images.y, shuffled % 10)


def test_a_root_without_mnist_falls_back_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "tinyshakespeare.txt").write_text("text")
    assert "the data root has none" in data.mnist(data.data_root(str(tmp_path))).source


@pytest.mark.parametrize("damage", ["truncated", "missing", "empty"])
def test_damaged_mnist_is_named(damage: str, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 5000 if damage == "truncated" else 0])
    with pytest.raises(LabError, match="MNIST"):
        data.mnist(data.data_root(str(tmp_path)))


def test_generated_images_stand_in_for_cifar10() -> None:
    images = data.cifar10(data.DataRoot())
    assert images.x.shape[1:] == (3, 32, 32)
    assert "in place of CIFAR-10" in images.source
    assert len(torch.bincount(images.y)) == 10


def jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, shade, shade)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_cifar10_archive_is_unpacked_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "cifar10-jpg.tar.gz", "w:gz") as archive:
        for part, count in (("train", 3), ("test", 1)):
            for label, name in enumerate(("airplane", "automobile")):
                for index in range(count):
                    content = jpeg(100 * label + index)
                    info = tarfile.TarInfo(f"cifar10/{part}/{name}/{index:04}.jpg")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    images = data.cifar10(data.data_root(str(root)))
    assert images.x.shape == (6, 3, 32, 32)
    assert images.test_x.shape == (2, 3, 32, 32)
    bright = images.x.mean(dim=(1, 2, 3))
    assert torch.equal(bright > 0.2, images.y == 1)
    assert [path.name for path in root.iterdir()] == ["cifar10-jpg.tar.gz"], "nothing is written beside the data"
    kept = list((tmp_path / "cache" / "funcreg").iterdir())
    assert len(kept) == 1
    assert torch.equal(data.cifar10(data.data_root(str(root))).x, images.x)
    (root / "cifar10-jpg.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(LabError, match="CIFAR-10"):
        data.cifar10(data.data_root(str(root)))


def test_image_folder(tmp_path: Path) -> None:
    for name, shade in (("cat", 50), ("dog", 200)):
        (tmp_path / name).mkdir()
        for index in range(5):
            (tmp_path / name / f"{index}.jpg").write_bytes(jpeg(shade))
    images = data.image_folder(tmp_path, size=16)
    assert images.classes == ("cat", "dog")
    assert images.x.shape == (8, 3, 16, 16)
    assert torch.equal(images.x.mean(dim=(1, 2, 3)) > 0.5, images.y == 1)
    (tmp_path / "dog" / "corrupt.jpg").write_bytes(b"not a picture")
    with pytest.raises(LabError, match=r"corrupt\.jpg cannot be read"):
        data.image_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabError, match="empty"):
        data.image_folder(tmp_path)
    with pytest.raises(LabError, match="not a folder"):
        data.image_folder(tmp_path / "absent")


def test_download_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "MNIST", offline)
    with pytest.raises(LabError, match="no route to host"):
        image_loaders.mnist(data.data_root(str(tmp_path), download=True))


def test_text(tmp_path: Path) -> None:
    manual = data.characters(data.DataRoot())
    assert "in place of Tiny Shakespeare" in manual.source
    assert len(manual.codes) > 100_000
    (tmp_path / "tinyshakespeare.txt").write_text("to be or not")
    text = data.characters(data.data_root(str(tmp_path)))
    assert "".join(text.alphabet[code] for code in text.codes) == "to be or not"
    (tmp_path / "tinyshakespeare.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabError, match="cannot read"):
        data.characters(data.data_root(str(tmp_path)))


def test_toys_are_functions_of_a_key(key: Tensor) -> None:
    x, y = data.quadratic(key, 500, tilt=-0.7, threshold=0.3)
    assert torch.equal(y, (x[:, 0] ** 2 - 0.7 * x[:, 1] > 0.3).long())
    keys = fr.random.split(key, 3)
    stacked, _ = torch.func.vmap(lambda k: data.quadratic(k, 20))(keys)
    torch.testing.assert_close(stacked[2], data.quadratic(keys[2], 20)[0])
    features, targets = data.regression(key, 50, noise=0.0)
    expected = torch.sin(2 * features[:, 0]) + 0.5 * features[:, 1] * features[:, 2]
    torch.testing.assert_close(targets[:, 0], expected)


def test_track_goes_through_all_steps() -> None:
    for bars in (False, True):
        assert list(Context(bars=bars).track(range(3), "steps")) == [0, 1, 2]
