"""What all subcommands share: the program, its console, its options, and what is refused before work begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, get_args

import typer
from rich.console import Console

from manifests import layout
from manifests.config import RefineStage, parse_source
from manifests.errors import ConfigError, OutputError
from manifests.object_store import Place, place_of
from manifests.policy import read_policy
from pipeline.progress import Interrupted

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipeline.recipe import Recipe

__all__ = [
    "BankOption",
    "ConfigOption",
    "CountOption",
    "DeviceOption",
    "KeepStagesOption",
    "MechanismOption",
    "Out",
    "OutText",
    "PolicyOption",
    "ScaleTestOption",
    "SchedulerOption",
    "SeedOption",
    "SizeOption",
    "SourceOption",
    "WorkersOption",
    "app",
    "console",
    "interruptible",
    "must_be_corpus",
    "must_be_folder",
    "must_be_picture",
    "must_be_scheduler",
    "on_disk",
    "recipe_of",
    "save_picture",
    "shared_bank_of",
]

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")

app = typer.Typer(
    name="maphc2f",
    help="From photographs of normal parts, write a corpus of physically grounded synthetic defects.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console(highlight=False, soft_wrap=True)

OutText = Annotated[
    str, typer.Argument(metavar="OUT", help="The corpus folder, or s3://bucket/prefix.", show_default=False)
]


GivenT = TypeVar("GivenT")


def on_disk(given: GivenT) -> GivenT:
    """A path that must be on a disk, or several, as given: an address would else be taken for a folder of that name."""
    for path in given if isinstance(given, list | tuple) else (given,):
        if isinstance(path, Path):
            place_of(path)
    return given


Out = Annotated[Path, typer.Argument(metavar="OUT", help="The corpus folder.", show_default=False, callback=on_disk)]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="RECIPE.yaml", help="Recipe to start from; options go before it.")
]
SourceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="KIND:PATH",
        help="Where normal photographs are: builtin, folder:PATH, mvtec:PATH, visa:PATH or btad:PATH; may be repeated.",
    ),
]
CountOption = Annotated[int | None, typer.Option("--count", metavar="N", help="Samples in all.")]
SizeOption = Annotated[int | None, typer.Option("--size", metavar="S", help="Side of the pictures in pixels.")]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="K", help="Root of all random streams.")]
MechanismOption = Annotated[
    list[str] | None,
    typer.Option("--mechanism", metavar="M", help="Only this mechanism, see `maphc2f mechanisms`; may be repeated."),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="POLICY.json", help="What to hold more of, and less: policy.json of `bisqad train`."
    ),
]
BankOption = Annotated[
    Path | None,
    typer.Option(
        "--bank",
        metavar="DIR",
        envvar="MAPHC2F_BANK",
        help="Another corpus or bank: trajectories that it holds are copied, not computed.",
    ),
]
KeepStagesOption = Annotated[
    bool, typer.Option("--keep-stages", help="Store paste, render and npcF beside each picture, for `sheet --stages`.")
]
ScaleTestOption = Annotated[
    bool,
    typer.Option(
        "--scale-test", help="Take 30 embedded categories for the recipe's sources, to try its size on this machine."
    ),
]
WorkersOption = Annotated[int, typer.Option("--workers", metavar="W", min=1, max=1024, help="Processes that compute.")]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask scheduler whose workers compute: tcp://HOST:PORT, or its scheduler file; see docs/cluster.md.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="D", help="What pictures are computed on: auto, cpu, cuda or cuda:N.")
]


def recipe_of(
    config: Path | None,
    source: Sequence[str] | None,
    count: int | None,
    size: int | None,
    seed: int | None,
    mechanism: Sequence[str] | None = None,
    policy: Path | None = None,
    *,
    keep_stages: bool = False,
    scale_test: bool = False,
) -> Recipe:
    """The recipe that the options ask for; they go before what RECIPE.yaml says.

    Raises
    ------
    ConfigError
        It does not hold together.
    """
    from pipeline.recipe import load_recipe, only_mechanisms  # it knows the solvers, and those load Numba

    overrides: dict[str, object] = {
        name: value for name, value in (("count", count), ("size", size), ("seed", seed)) if value is not None
    }
    if policy is not None:
        overrides["policy"] = read_policy(policy)
    if scale_test:
        from pipeline.sources.builtin import scale_test_sources

        if source:
            raise ConfigError("--scale-test takes embedded pictures for all sources; leave --source out")
        overrides["sources"] = [spec.model_dump(exclude_none=True) for spec in scale_test_sources()]
    if source:
        overrides["sources"] = [parse_source(text).model_dump(exclude_none=True) for text in source]
    recipe = load_recipe(config, overrides=overrides)
    if keep_stages:
        store = recipe.store.model_copy(update={"stages": get_args(RefineStage)})
        recipe = recipe.model_copy(update={"store": store})
    return only_mechanisms(recipe, mechanism) if mechanism else recipe


@contextmanager
def interruptible() -> Iterator[None]:
    """What the job calls an interruption is one for the shell."""
    try:
        yield
    except Interrupted:
        raise KeyboardInterrupt from None


def shared_bank_of(folder: Path | None) -> Path | None:
    """The folder given by --bank, if it holds a bank."""
    if folder is not None and not (folder / layout.COMMITS).is_dir():
        raise OutputError(f"--bank {folder}: holds no bank; give the folder that generate or bank wrote")
    return folder


def must_be_corpus(out: Place) -> None:
    """Tell a wrong path (bad input) from a corpus that is damaged or not finished (found wrong)."""
    if isinstance(out, Path) and not out.exists():
        raise OutputError(f"{out}: does not exist; give the folder that generate wrote")
    wanted = layout.TOP_LEVEL - {layout.DATA, layout.LOG}
    there = {name for name in wanted if (out / name).exists()} if isinstance(out, Path) else wanted & {*out.names()}
    if not there:
        raise OutputError(f"{out}: is not a corpus; give the folder or the prefix that generate wrote")


def must_be_folder(out: Place, option: str) -> Path:
    """Refuse a bucket for what needs a file system that several machines write to."""
    if isinstance(out, Path):
        return out
    raise OutputError(f"{option} with {out}: expected a folder; make the corpus in one, then copy it there")


def must_be_scheduler(scheduler: str, workers: int) -> None:
    """Refuse what is neither an address nor a file, and workers of our own beside those of the cluster."""
    if workers != 1:
        raise ConfigError(f"--workers {workers} with --scheduler {scheduler}: give one of them")
    if not scheduler.startswith(("tcp://", "tls://")) and not Path(scheduler).is_file():
        raise ConfigError(
            f"--scheduler {scheduler}: expected tcp://HOST:PORT or a scheduler file; there is no such file"
        )


def must_be_picture(picture: Path) -> None:
    """Refuse a name that no picture can be written to."""
    place_of(picture)
    if picture.suffix.lower() not in _PICTURE_SUFFIXES or picture.is_dir():
        raise OutputError(
            f"{picture}: expected a picture's name that ends in {', '.join(_PICTURE_SUFFIXES)}, "
            f"got {'a folder' if picture.is_dir() else repr(picture.name)}"
        )


def save_picture(picture: Path, image: Image) -> None:
    """Write a picture, and say so."""
    from pipeline.store import output_errors

    with output_errors(picture):
        picture.parent.mkdir(parents=True, exist_ok=True)
        image.save(picture)
    console.print(f"[green]written[/green]: {picture} ({image.width} x {image.height} px)")
