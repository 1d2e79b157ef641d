"""From what was asked to a training: options checked, network and recipe chosen, said in a line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezenet.cli.app import run as cli
from squeezenet.codec.model_kinds import DEFAULT_MODEL
from squeezenet.data.augment import Augmentation
from squeezenet.errors import FetchError, SqueezeNetError, UnknownNameError, UsageError
from squeezenet.model.load import load_model
from squeezenet.model.published import PUBLISHED, PublishedWeights
from squeezenet.model.safetensors_file import save_safetensors
from squeezenet.train.plan import TrainingPlan, TrainOptions, default_run_folder, plan_training
from squeezenet.train.recipe import default_recipe, recipe_named, recorded_augmentation
from squeezenet.train.start import NetworkChoice, new_model
from tests.train.small import Log

MakeFolder = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def photographs(image_folder: MakeFolder) -> Path:
    """Pictures too large to be small images, and few."""
    return image_folder(red=8, green=8, size=(90, 70))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no connection; ``squeezenet1_1`` is a small network of five classes."""
    recipe = recipe_named("digits")
    names = tuple("abcde")
    model = new_model(NetworkChoice(arch="squeezenet_tiny", input_channels=3), recipe, names, 0)
    save_safetensors(tmp_path / "there", model.record, model.module.state_dict())
    weights = PublishedWeights(
        url="http://127.0.0.1:9/squeezenet1_1-test.pth",
        sha256=hashlib.sha256((tmp_path / "there").read_bytes()).hexdigest(),
        file_name="squeezenet1_1-test.pth",
        about="test",
    )
    monkeypatch.setitem(PUBLISHED, "squeezenet1_1", weights)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "squeezenet"


@pytest.fixture
def fetched(cache: Path) -> Path:
    """The same with the file in the cache."""
    cache.mkdir(parents=True)
    (cache.parents[1] / "there").rename(cache / "squeezenet1_1-test.pth")
    return cache


def planned(source: Path | str, **options: object) -> tuple[TrainingPlan, list[str]]:
    log = Log()
    return plan_training(str(source), TrainOptions(**options), log), log.lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.0}, "--val-fraction 0.0, expected between 0 and 1"),
        ({"val_fraction": 1.0}, "--val-fraction 1.0, expected"),
        ({"input_size": 0}, "--input-size 0, expected 1 to"),
        ({"input_size": 1 << 20}, "--input-size 1048576, expected"),
        ({"input_channels": 2}, "--input-channels 2, expected 1"),
        ({"epochs": 1, "max_steps": 1}, "--epochs or --max-steps, not both"),
        ({"arch": "squeezenet_tiny", "new_head": True}, "--new-head is for --from"),
        ({"start": "x", "input_size": 8}, "are of the model that --from names"),
        ({"start": "x", "input_channels": 1}, "are of the model that --from names"),
        ({"start": "x", "batch_norm": True}, "are of the model that --from names"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainOptions(**options)  # type: ignore[arg-type]


def test_options_that_are_allowed() -> None:
    small = TrainOptions(val_fraction=0.01, input_size=1, input_channels=1, epochs=1, new_head=True)
    large = TrainOptions(val_fraction=0.99, input_channels=3, max_steps=1, batch_norm=False)
    tuned = TrainOptions(start="x", new_head=True, arch="squeezenet1_1")
    assert [each.changes_network for each in (small, large, tuned)] == [True, True, False]


def test_few_photographs_fine_tune_published_weights(photographs: Path, fetched: Path) -> None:
    plan, lines = planned(photographs, seed=3)
    assert lines == [
        "no --arch or --from: 16 photographs are few, so fine-tuning squeezenet1_1 (ImageNet)",
        "the data has 2 classes (green, red), the model 5 classes (a, b, c, ...): a new last layer "
        "is learned",
    ]
    assert (plan.start, plan.new_head, plan.recipe.name) == ("squeezenet1_1", True, "finetune")
    assert plan.model.record.class_names == ("green", "red")
    assert plan.model.record.provenance["method"] == "fine-tuned"
    assert (plan.seed, plan.val_fraction) == (3, 0.1)


def test_offline_it_says_what_to_type(photographs: Path, cache: Path) -> None:
    with pytest.raises(FetchError) as raised:
        planned(photographs)
    line = str(raised.value)
    assert "no connection" in line and "\n" not in line
    sha256 = PUBLISHED["squeezenet1_1"].sha256
    assert f"put squeezenet1_1-test.pth (SHA-256 {sha256[:8]}...) into {cache}, or" in line
    assert "--from FILE" in line
    assert line.endswith("or train from scratch with --arch squeezenet1_1")
    with pytest.raises(FetchError) as named:
        planned(photographs, start="squeezenet1_1")
    assert line.startswith(str(named.value)) and "from scratch" not in str(named.value)
    (cache / "squeezenet1_1-test.pth").write_bytes(b"another file")
    with pytest.raises(
        FetchError, match=r"SHA-256 is .*, expected it to begin .*; remove it to download it anew"
    ):
        planned(photographs, start="squeezenet1_1")


def test_a_published_name_wins_over_a_file(
    photographs: Path, fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("squeezenet1_1").write_bytes(DEFAULT_MODEL.read_bytes())
    by_name, _ = planned(photographs, start="squeezenet1_1")
    assert by_name.model.record.spec.name == "squeezenet_tiny"
    for path in ("./squeezenet1_1", Path("squeezenet1_1")):
        by_path, _ = planned(photographs, start=path)
        assert by_path.model.record.spec.name == "squeezenet_cifar"
    assert by_path.start == "squeezenet1_1"


def test_the_networks_own_options_are_for_training_from_scratch(
    photographs: Path, fetched: Path
) -> None:
    for options in ({"input_size": 64}, {"input_channels": 1}, {"batch_norm": True}):
        with pytest.raises(UsageError, match="from scratch; add --arch squeezenet1_1"):
            planned(photographs, **options)
    plan, lines = planned(photographs, arch="squeezenet1_1", input_size=64)
    assert (plan.start, plan.new_head, lines) == (None, False, [])
    assert plan.model.record.spec.input_size == (64, 64)


def test_small_images_and_digits_are_trained_from_scratch(image_folder: MakeFolder) -> None:
    plan, lines = planned(image_folder(a=6, b=6, size=(50, 40)), batch_size=4)
    assert lines == [
        "no --arch or --from: images of 40 pixels are small, so training squeezenet_cifar from "
        "scratch; on so few, --from squeezenet1_1 is more accurate, with an input of 224 pixels"
    ]
    assert plan.model.record.spec.input_size == (40, 40) and plan.recipe.name == "small"
    assert (plan.start, plan.new_head) == (None, False)
    assert plan.recipe.batch_size == 4
    plan, lines = planned("digits", input_size=16, seed=2)
    assert lines == ["no --arch or --from: training squeezenet_tiny from scratch, made for digits"]
    assert plan.model.record.spec.name == "squeezenet_tiny" and plan.recipe.name == "digits"
    assert plan.model.record.spec.input_size == (16, 16)
    assert plan.model.record.provenance["seed"] == 2
    with pytest.raises(UsageError, match="--new-head is for --from MODEL"):
        planned("digits", new_head=True)


def test_a_new_head_follows_from_the_classes(image_folder: MakeFolder, fetched: Path) -> None:
    same = image_folder(**dict.fromkeys("abcde", 3))
    plan, lines = planned(same, start="squeezenet1_1")
    assert not plan.new_head and lines == []
    three = image_folder(same.parent / "three", x=3, y=3, z=3)
    _, lines = planned(three, start="squeezenet1_1")
    assert lines[0].startswith("the data has 3 classes (x, y, z), the model")
    plan, lines = planned(same, start="squeezenet1_1", new_head=True)
    assert plan.new_head and lines == []
    assert plan.model.record.class_names == tuple("abcde")


def test_the_networks_name_must_fit(photographs: Path, fetched: Path) -> None:
    with pytest.raises(SqueezeNetError, match="is squeezenet_tiny, --arch says squeezenet1_0"):
        planned(photographs, start="squeezenet1_1", arch="squeezenet1_0")
    with pytest.raises(UnknownNameError, match="unknown architecture 'resnet50'"):
        planned(photographs, arch="resnet50")


def test_recipes_are_chosen_and_changed(image_folder: MakeFolder) -> None:
    folder = image_folder(a=50, b=50)
    small = recipe_named("small")

    def recipe_of(**options: object) -> object:
        return planned(folder, arch="squeezenet_cifar", **options)[0].recipe

    # 90 training images: batches of 16.
    assert recipe_of() == small.for_set_of(90) and small.for_set_of(90).batch_size == 16
    assert recipe_of(batch_size=256) == small
    assert recipe_of(recipe="digits") == recipe_named("digits")
    assert recipe_of(recipe="small", micro_batch=3) == dataclasses.replace(small, micro_batch=3)
    flipped = recipe_of(recipe="small", flip=False, epochs=7, learning_rate=0.05)
    assert flipped == dataclasses.replace(
        small,
        augmentation=dataclasses.replace(small.augmentation, flip=False),
        epochs=7,
        learning_rate=0.05,
        matrix_rate=0.025,
    )
    paper = recipe_named("paper")
    assert recipe_of(recipe="paper").max_steps == 170_000
    assert recipe_of(recipe="paper", max_steps=5) == dataclasses.replace(paper, max_steps=5)
    assert recipe_of(recipe="paper", epochs=5) == dataclasses.replace(
        paper, epochs=5, max_steps=None
    )
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"learning_rate": -1.0}, {"max_steps": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            recipe_of(**wrong)
    with pytest.raises(UnknownNameError, match="unknown recipe 'best'"):
        recipe_of(recipe="best")


def test_default_recipes() -> None:
    assert default_recipe("digits", input_size=(8, 8)).name == "digits"
    assert default_recipe("x", input_size=(64, 32)).name == "small"
    assert default_recipe("x", input_size=(64, 65)).name == "default"
    model = new_model(
        NetworkChoice(arch="squeezenet_tiny"), recipe_named("digits"), ("a", "b"), 0
    ).record
    # A model of others is fine-tuned with the recipe's augmentation, one of ours with its own.
    assert default_recipe("digits", input_size=(8, 8), start=model) == recipe_named("finetune")
    ours = Augmentation(flip=False, colour=0.3)
    inner = {"augmentation": dataclasses.asdict(ours)}
    for provenance in (inner, {"source": inner}, {"source": {"source": inner}}):
        record = dataclasses.replace(model, provenance=provenance)
        assert recorded_augmentation(record) == ours
        tuned = default_recipe("x", input_size=(8, 8), start=record)
        assert tuned == dataclasses.replace(recipe_named("finetune"), augmentation=ours)
    for provenance in ({}, {"source": "a file"}, {"augmentation": {"flip": 3}}):
        record = dataclasses.replace(model, provenance=provenance)
        assert recorded_augmentation(record) is None
    # The newest training counts.
    both = {"augmentation": dataclasses.asdict(Augmentation()), "source": inner}
    assert recorded_augmentation(dataclasses.replace(model, provenance=both)) == Augmentation()


def test_default_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_run_folder("digits") == Path("runs/digits")
    assert default_run_folder("some/where/photos/") == Path("runs/photos")
    assert default_run_folder(".") == Path("runs") / tmp_path.name


def test_the_command_says_what_it_chose(
    photographs: Path,
    fetched: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["train", str(photographs), "--epochs", "1", "--device", "cpu", "--workers", "0"]
    assert cli([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[0].startswith("no --arch or --from: 16 photographs are few")
    assert "a new last layer is learned" in lines[1]
    assert lines[2] == "no --out: the run is in runs/images"
    result = json.loads(captured.out)
    assert (result["from"], result["new_head"]) == ("squeezenet1_1", True)
    assert (result["out"], result["recipe"]) == ("runs/images", "finetune")
    model = load_model(tmp_path / "runs" / "images")
    assert model.record.class_names == ("green", "red")
    assert (tmp_path / "runs" / "images" / "report" / "MODEL_CARD.md").is_file()
    # The same command again finds the run.
    assert cli(arguments) == 0
    assert "runs/images: this run is finished" in capsys.readouterr().err


def test_the_packages_own_network(
    image_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """``--from default`` is a compressed file, dequantised."""
    monkeypatch.chdir(tmp_path)
    folder = image_folder(a=6, b=6)
    arguments = ["--from", "default", "--epochs", "1", "--device", "cpu", "--json"]
    assert cli(["train", str(folder), "--out", "run", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["arch"], result["new_head"]) == ("squeezenet_cifar", True)
    assert result["from"] == str(DEFAULT_MODEL)


def test_a_report_is_drawn_again_for_a_longer_run(
    image_folder: MakeFolder, tmp_path: Path, capsys: Capture
) -> None:
    run = tmp_path / "run"
    arguments = ["train", str(image_folder(a=10, b=10)), "--arch", "squeezenet_tiny"]
    arguments += ["--out", str(run), "--device", "cpu", "--batch-size", "8"]
    card = run / "report" / "MODEL_CARD.md"
    assert cli([*arguments, "--epochs", "1"]) == 0
    first = card.stat().st_mtime_ns
    assert cli([*arguments, "--epochs", "1"]) == 0
    assert card.stat().st_mtime_ns == first
    assert cli([*arguments, "--epochs", "2"]) == 0
    assert card.stat().st_mtime_ns > first
    assert f"report in {run / 'report'}" in capsys.readouterr().out
    assert len(list((run / "checkpoints").iterdir())) == 1
    assert cli([*arguments, "--epochs", "3", "--keep-checkpoints"]) == 0
    assert len(list((run / "checkpoints").iterdir())) == 2
    assert cli([*arguments, "--epochs", "2"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "7 steps are done and 5 were asked for" in line


def test_real_weights_from_a_file(photographs: Path, shared: Path) -> None:
    plan, lines = planned(photographs, start=shared / "squeezenet1_1-fp16.pth")
    assert lines == [
        "the data has 2 classes (green, red), the model 1,000 classes (tench, goldfish, great "
        "white shark, ...): a new last layer is learned"
    ]
    assert plan.model.record.spec.name == "squeezenet1_1"
    assert plan.model.record.spec.input_size == (224, 224)
    assert plan.recipe == recipe_named("finetune")


def test_a_teacher_is_learned_from(tmp_path: Path, capfd: Capture) -> None:
    """Taught by a network that saw ten times as many digits, the same training comes nearer it."""
    few = ("--train-images", "120", "--epochs", "40", "--threads", "1")
    teacher = tmp_path / "teacher"
    assert cli(["train", "digits", "--out", str(teacher), "--epochs", "4", "--threads", "1"]) == 0
    assert cli(["train", "digits", "--out", str(tmp_path / "alone"), *few]) == 0
    taught = ["train", "digits", "--out", str(tmp_path / "taught"), *few, "--teacher", str(teacher)]
    assert cli(taught) == 0
    divergence = {}
    for name in ("alone", "taught"):
        capfd.readouterr()
        compared = ["eval", str(tmp_path / name), "digits", "--against", str(teacher), "--json"]
        assert cli(compared) == 0
        divergence[name] = json.loads(capfd.readouterr().out)["kl"]
    assert divergence["taught"] < 0.7 * divergence["alone"], divergence
    record = load_model(tmp_path / "taught").record
    assert record.provenance["teacher"] == {
        "architecture": "squeezenet_tiny",
        "sha256": hashlib.sha256((teacher / "best.safetensors").read_bytes()).hexdigest(),
    }
    # Neither without the teacher nor with another of the same network is it this run.
    for other in ([], ["--teacher", str(tmp_path / "alone")]):
        assert cli([*taught[:-2], *other]) == 1
        assert "teacher" in capfd.readouterr().err


def test_a_teacher_must_see_and_say_the_same(
    photographs: Path, image_folder: MakeFolder, fetched: Path, tmp_path: Path
) -> None:
    model = new_model(
        NetworkChoice(arch="squeezenet_tiny", input_channels=3),
        recipe_named("digits"),
        ("green", "red"),
        0,
    )
    teacher = tmp_path / "teacher.safetensors"
    save_safetensors(teacher, model.record, model.module.state_dict())
    plan = plan_training(
        str(photographs), TrainOptions(arch="squeezenet_tiny", input_channels=3, teacher=teacher)
    )
    assert plan.teacher is not None
    with pytest.raises(UsageError, match=r"5 classes .* the data has 2 classes \(green, red\)"):
        plan_training(
            str(photographs),
            TrainOptions(arch="squeezenet_tiny", input_channels=3, teacher="squeezenet1_1"),
        )
    with pytest.raises(UsageError, match=r"its preprocessing has crop \(8, 8\), the network's"):
        plan_training(
            str(photographs),
            TrainOptions(arch="squeezenet_tiny", input_channels=3, input_size=16, teacher=teacher),
        )
