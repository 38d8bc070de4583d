"""The command line: ``bisqad train | evaluate | detect | ablate | export``.

Exit codes: 0 done, 1 found wrong, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

import manifests
from bisqad.config import Method, TrainConfig, read_train_config
from bisqad.terminal import TerminalProgress
from manifests.command_line import run_program
from manifests.console import ConsoleProgress
from manifests.durable import write_atomic
from manifests.errors import ConfigError, OutputError
from manifests.object_store import place_of

if TYPE_CHECKING:
    from bisqad.metrics import Detection, Estimate

__all__ = ["app", "main"]


app = typer.Typer(
    name="bisqad",
    help="Train a detector from a stored corpus of synthetic defects, weighting samples by what they are worth.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console(highlight=False, soft_wrap=True)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder that train wrote.", show_default=False)]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="D", help="auto, cpu, cuda or cuda:N: where the backbone works.")
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Where features are kept, to be shared by several runs."),
]


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"bisqad {manifests.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Examples: [cyan]bisqad train corpus --out run[/cyan]   "
    "[cyan]bisqad train corpus --out run --method uniform --seed 3[/cyan]   "
    "[cyan]bisqad train corpus --out run --normals photographs/good --real-val data/ten-real[/cyan]   "
    "Stopped or killed? The same command goes on where it was."
)
def train(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A finished corpus.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run folder.", show_default=False)],
    normals: Annotated[
        Path | None, typer.Option("--normals", metavar="DIR", help="More photographs of normal parts.")
    ] = None,
    real_val: Annotated[
        Path | None,
        typer.Option("--real-val", metavar="DIR", help="A few real defects with masks: they judge, never train."),
    ] = None,
    method: Annotated[
        Method | None, typer.Option("--method", help="bilevel learns the samples' weights; uniform has none.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="TRAIN.yaml", help="Settings.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="K", min=0, help="Root of all random streams.")] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="S", help="Learn from paste, render, npcf or final pictures.")
    ] = None,
    sqe: Annotated[
        Path | None, typer.Option("--sqe", metavar="FILE", help="Estimator to start from; default: the one shipped.")
    ] = None,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a detector from a corpus, or go on with a run that was stopped."""
    changes = {k: v for k, v in (("method", method), ("seed", seed), ("stage", stage)) if v is not None}
    settings = _changed(read_train_config(config), changes)
    where = _device(device)
    place_of(corpus)  # refuses an address, which would read as a folder that is not there
    if not corpus.is_dir():
        raise ConfigError(f"{corpus}: no such folder; give a corpus that `maphc2f generate` finished")
    from bisqad.run import train as job  # torch, only where it is needed

    with TerminalProgress(console) as progress:
        detector = job(
            corpus,
            out,
            settings,
            normals=normals,
            real_val=real_val,
            sqe=sqe,
            cache=cache,
            device=where,
            progress=progress,
        )
    fusion = detector.fusion
    console.print(
        f"on held-out pictures, mean over mechanisms: image AUROC {fusion.image_auroc:.3f}, "
        f"pixel AP {fusion.pixel_ap:.3f}; share of the head {fusion.image_share:.1f} in scores, "
        f"{fusion.map_share:.1f} in maps"
    )
    console.print(f"[green]done[/green]: {out}; judge it with [cyan]bisqad evaluate {out} --data DIR[/cyan]")


@app.command(
    epilog="Example: [cyan]bisqad evaluate run --data data/bottle --json figures.json[/cyan]   "
    "Layouts of MVTec AD, VisA and BTAD are recognised."
)
def evaluate(
    run: Run,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Data set with real defects and masks.", show_default=False)
    ],
    category: Annotated[
        str | None, typer.Option("--category", metavar="C", help="Only this category of the data set.")
    ] = None,
    leave_out: Annotated[
        Path | None,
        typer.Option(
            "--leave-out", metavar="DIR", help="Data set whose photographs are not judged: --real-val of train."
        ),
    ] = None,
    to_json: Annotated[Path | None, typer.Option("--json", metavar="F", help="Write the figures as JSON.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Image and pixel AUROC, pixel AP and AUPRO on real defects, with 95 % intervals, by type of defect."""
    from bisqad.evaluation import evaluate as job
    from bisqad.inspection_set import find_photographs

    detector = _detector(run, device)
    left_out = [photograph.path for photograph in find_photographs(leave_out)] if leave_out is not None else []
    with ConsoleProgress(console) as progress:
        judged = progress.count("judging", "photographs")
        found = job(detector, data, category=category, leave_out=left_out, advance=judged)
    _print_detection(found)
    if to_json is not None:
        _write(to_json, json.dumps(found.to_json(), indent=1).encode() + b"\n")


@app.command(epilog="Example: [cyan]bisqad detect run part-17.png part-18.png --out found[/cyan]")
def detect(
    run: Run,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photographs.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the heat maps.", show_default=False)],
    category: Annotated[
        str | None, typer.Option("--category", metavar="C", help="Kind of part, where the run knows several.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Score photographs, and show where they are abnormal: a heat map over each."""
    from bisqad.detection import detect as job

    detector = _detector(run, device)
    with ConsoleProgress(console) as progress:
        looked_at = progress.count("inspecting", "photographs", total=len(images))
        found = job(detector, images, out, category=category, advance=looked_at)
    table = Table()
    for heading in ("photograph", "score", "verdict", "heat map"):
        table.add_column(heading, justify="right" if heading == "score" else "left")
    for row in found:
        verdict = f"[yellow]{row.error}" if row.error else "[red]abnormal" if row.anomalous else "[green]normal"
        table.add_row(row.image.name, f"{row.score:.2f}" if not row.error else "-", verdict, row.heat_map)
    console.print(table)
    console.print(f"abnormal: a score above {detector.image_threshold:.2f}, that of 95 % of held-out normals")
    if any(row.error for row in found):
        raise typer.Exit(1)


@app.command(
    epilog="Example: [cyan]bisqad ablate corpus --data data/bottle --out ablation --seeds 5[/cyan]   "
    "The corpus keeps its stages: maphc2f generate --keep-stages. Finished runs are not trained again."
)
def ablate(
    corpora: Annotated[
        list[Path], typer.Argument(metavar="CORPUS...", help="Corpora that keep their stages.", show_default=False)
    ],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Data set to judge on.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for table and plot.", show_default=False)],
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, help="Runs of every step.")] = 5,
    normals: Annotated[
        Path | None, typer.Option("--normals", metavar="DIR", help="More photographs of normal parts.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="TRAIN.yaml", help="Settings.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """What naive paste, render, npcF, npcF++ and SQE weights are worth to a detector: table and plot."""
    settings = read_train_config(config)
    from bisqad.ablation import MEASURES, summary
    from bisqad.ablation import ablate as job

    found = job(
        corpora,
        data,
        out,
        settings,
        seeds=range(seeds),
        normals=normals,
        device=_device(device),
        told=console.print,
    )
    table = Table(title=f"mean and 95 % interval over {seeds} seeds", title_justify="left")
    for heading in ("step", *(name.replace("_", " ") for name in MEASURES)):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    for name, measures in found.items():
        table.add_row(name, *("{:.3f} ± {:.3f}".format(*summary(measures[m])) for m in MEASURES))
    console.print(table)
    console.print(f"[green]done[/green]: {out / 'ablation.png'}")


@app.command(
    epilog="Examples: [cyan]bisqad export run --sqe sqe.safetensors[/cyan]   "
    "[cyan]bisqad export run --onnx detector.onnx --category bottle[/cyan]"
)
def export(
    run: Run,
    sqe: Annotated[
        Path | None, typer.Option("--sqe", metavar="FILE", help="Learned estimator, for `maphc2f score --sqe`.")
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="The detector, for ONNX Runtime and its like.")
    ] = None,
    category: Annotated[
        str | None,
        typer.Option("--category", metavar="C", help="Of --onnx: kind of part, where the run knows several."),
    ] = None,
) -> None:
    """Take out of a run what others use."""
    if sqe is None and onnx is None:
        raise ConfigError("export: nothing asked for; give --sqe FILE or --onnx FILE")
    if category is not None and onnx is None:
        raise ConfigError("--category: goes with --onnx FILE only")
    if sqe is not None:
        source = run / "sqe.safetensors"
        if not source.is_file():
            raise ConfigError(f"{run}: holds no learned estimator; train with --method bilevel")
        _write(sqe, source.read_bytes())
        console.print(f"[green]done[/green]: {sqe}; use it with [cyan]maphc2f score CORPUS --sqe {sqe}[/cyan]")
    if onnx is not None:
        from bisqad.onnx_export import onnx_model

        _write(onnx, onnx_model(_detector(run, "cpu"), category))
        console.print(f"[green]done[/green]: {onnx}; docs/bisqad.md shows how to use it")


def _changed(config: TrainConfig, changes: Mapping[str, object]) -> TrainConfig:
    from pydantic import ValidationError

    from manifests.config import explain_validation

    try:
        return TrainConfig.model_validate({**config.model_dump(), **changes})
    except ValidationError as error:
        raise ConfigError(f"--{explain_validation(error, TrainConfig)}") from None


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    known = ["cpu", "cuda", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    if name not in known or (name == "cuda" and not torch.cuda.is_available()):
        raise ConfigError(f"--device {name}: expected auto, cpu, or cuda where there is a GPU")
    return name


def _detector(run: Path, device: str):  # type: ignore[no-untyped-def]
    from bisqad.detector import Detector
    from bisqad.run import DETECTOR

    if not run.is_dir():
        raise ConfigError(f"{run}: no such folder; give the run folder that `bisqad train` wrote")
    if not (run / DETECTOR).is_file():
        raise ConfigError(f"{run}: holds no finished detector; run `bisqad train` again to go on")
    return Detector.load(run / DETECTOR, device=_device(device))


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None


def _print_detection(found: Detection) -> None:
    table = Table(title="value, and 95 % interval over pictures", title_justify="left")
    table.add_column("defect")
    for heading in ("pictures", "image AUROC", "pixel AUROC", "pixel AP", "AUPRO"):
        table.add_column(heading, justify="right")
    for name, row in (("all", found), *found.by_defect.items()):
        cells = (row.image_auroc, row.pixel_auroc, row.pixel_ap, row.aupro)
        table.add_row(name, f"{row.defects} + {row.normals}", *(_estimate_text(cell) for cell in cells))
    console.print(table)


def _estimate_text(cell: Estimate) -> str:
    if cell.value != cell.value:
        return "-"
    return f"{cell.value:.3f} [dim]{cell.low:.3f}-{cell.high:.3f}[/dim]"


def main() -> None:
    """Entry point."""
    run_program(app, "bisqad", kept="finished epochs are kept")


if __name__ == "__main__":
    main()
