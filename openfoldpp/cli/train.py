"""``openfoldpp train``: the recipes that make the models which come with openfoldpp."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Train the small models that openfoldpp uses.",
    no_args_is_help=True,
    # --plm_weights, as the other commands write their flags, is --plm-weights.
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
)


class Precision(enum.StrEnum):
    """In which matrix products are computed."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@app.callback()
def train() -> None:
    """Train the small models that openfoldpp uses."""


@app.command("plm-lite")
def plm_lite(
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for model, log and checkpoint. Where there is a checkpoint, the run goes on.",
            show_default=False,
        ),
    ],
    teacher: Annotated[
        str,
        typer.Option(metavar="NAME", help="Whom to learn from: antiberty, esm1b, esm2_t33_650M_UR50D..."),
    ] = "antiberty",
    teacher_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its weights; by default those of its package or cache."),
    ] = None,
    keep_every: Annotated[
        int, typer.Option(metavar="N", help="Keep every N-th block of the teacher, counted from its last.")
    ] = 2,
    width: Annotated[
        int | None,
        typer.Option(metavar="W", help="Channels within the student's blocks; by default the teacher's."),
    ] = None,
    sequences: Annotated[
        Path | None,
        typer.Option(
            metavar="FASTA",
            help="Sequences to learn from, less one in 20 to measure on; by default antibodies are generated "
            "(this needs the package olga).",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights.")] = 3000,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Residues in each update, about.")] = 1035,
    learning_rate: Annotated[float, typer.Option(help="The highest, after the warm-up.")] = 7e-4,
    round_from: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="From this part of the steps on, learn with 4-bit weights; 1: never."
        ),
    ] = 0.7,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    dtype: Annotated[
        Precision, typer.Option(help="In which matrix products are computed.")
    ] = Precision.FLOAT32,
    start_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="checkpoint.pt of another run, to train its model further; give another --seed.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Where to train: cpu, cuda, cuda:1, mps.")
    ] = "cpu",
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that make batches beside the training; a GPU needs several.")
    ] = 0,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 100,
) -> None:
    """Distil a protein language model into a few of its blocks, and store them in 4 bits.

    The model plm_lite, which embeds antibody variable domains, was made with it. The result is
    DIR/plm_lite.safetensors; use it with --plm plm_lite --plm_weights DIR/plm_lite.safetensors.
    """
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.files import explain_os_error
    from openfoldpp.training.plm_lite import Settings, train

    settings = Settings(
        teacher=teacher,
        keep_every=keep_every,
        width=width,
        steps=steps,
        batch_tokens=batch_tokens,
        seed=seed,
        learning_rate=learning_rate,
        round_from=round_from,
        weights=str(teacher_weights) if teacher_weights else None,
        sequences=str(sequences) if sequences else None,
        dtype=dtype.value,
        start_from=str(start_from) if start_from else None,
    )
    try:
        path = train(
            settings,
            out,
            checkpoint_every=checkpoint_every,
            device=device,
            workers=workers,
            say=typer.echo,
        )
    except (OpenFoldPPError, OSError) as error:
        said = explain_os_error(error) if isinstance(error, OSError) else error
        typer.echo(f"openfoldpp train plm-lite: {said}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


@app.command("cheap-head")
def cheap_head(
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for head, log, checkpoint and the modelled antibodies. Where there is a checkpoint, "
            "the run goes on.",
            show_default=False,
        ),
    ],
    plm_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights of plm_lite; by default those that come with openfoldpp."),
    ] = None,
    fvs: Annotated[
        int,
        typer.Option(min=2, help="Antibody Fvs to learn from; they are generated, and modelled by FlashABB."),
    ] = 600,
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights.")] = 3000,
    pairs: Annotated[int, typer.Option(min=4, help="Pairs of windows in each update.")] = 2048,
    learning_rate: Annotated[float, typer.Option(help="The highest, after the warm-up.")] = 4e-3,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
) -> None:
    """Train the head that tells from the sequence how alike two backbone fragments are.

    CheapHead, by which motifs are looked up, was made with it: windows of ten residues become vectors, and
    the distance of two vectors estimates the RMSD of their backbones. Needs the packages olga and flash-abb.
    The result is DIR/cheap_head.safetensors.
    """
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.files import explain_os_error
    from openfoldpp.training.cheap_head import Settings, train

    settings = Settings(fvs=fvs, steps=steps, pairs=pairs, learning_rate=learning_rate, seed=seed)
    try:
        path = train(settings, out, weights=plm_weights, checkpoint_every=checkpoint_every, say=typer.echo)
    except (OpenFoldPPError, OSError) as error:
        said = explain_os_error(error) if isinstance(error, OSError) else error
        typer.echo(f"openfoldpp train cheap-head: {said}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


@app.command("motif-library")
def motif_library(
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for the modelled antibodies and DIR/library. A run that was stopped goes on.",
            show_default=False,
        ),
    ],
    fvs: Annotated[int, typer.Option(min=1, help="Generated antibody Fvs that go in whole.")] = 850,
    stretches: Annotated[
        int, typer.Option(min=0, help="More of them, of which CDR-H3 and what is around it goes in.")
    ] = 3150,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 10,
) -> None:
    """Make the default library of motifs: antibody Fvs that are generated, and modelled by FlashABB.

    Needs the packages olga and flash-abb, and a quarter of a second for each Fv.
    """
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.files import explain_os_error
    from openfoldpp.training.motif_library import Settings, make

    words = f"--out {out} --fvs {fvs} --stretches {stretches} --seed {seed}"
    try:
        path = make(
            Settings(fvs=fvs, stretches=stretches, seed=seed),
            out,
            made_by=f"openfoldpp train motif-library {words}",
            say=typer.echo,
        )
    except (OpenFoldPPError, OSError) as error:
        said = explain_os_error(error) if isinstance(error, OSError) else error
        typer.echo(f"openfoldpp train motif-library: {said}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{path}: {sum(file.stat().st_size for file in path.rglob('*')) / 1e6:.1f} MB")


@app.command("motif-profile")
def motif_profile(
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for the modelled antibodies, log, checkpoint and the network. Where there is a "
            "checkpoint, the run goes on.",
            show_default=False,
        ),
    ],
    fvs: Annotated[
        int, typer.Option(min=8, help="Generated antibody Fvs to learn from, but for the last 100.")
    ] = 4000,
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights.")] = 4000,
    learning_rate: Annotated[float, typer.Option(help="The highest, after the warm-up.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 10,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
) -> None:
    """Train what the score of motifs asks beside the index: the backbone that a sequence leads one to expect.

    Needs the packages olga and flash-abb. The result is DIR/motif_profile.safetensors.
    """
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.files import explain_os_error
    from openfoldpp.training.motif_profile import Settings, train

    settings = Settings(fvs=fvs, steps=steps, learning_rate=learning_rate, seed=seed)
    try:
        path = train(settings, out, checkpoint_every=checkpoint_every, say=typer.echo)
    except (OpenFoldPPError, OSError) as error:
        said = explain_os_error(error) if isinstance(error, OSError) else error
        typer.echo(f"openfoldpp train motif-profile: {said}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


@app.command("motif-score")
def motif_score(
    library: Annotated[
        Path, typer.Option(metavar="LIB", help="Library that is searched.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for the modelled antibodies, the score and its figures.",
            show_default=False,
        ),
    ],
    fvs: Annotated[
        int,
        typer.Option(min=4, help="Generated antibody Fvs that are searched for; the last are measured on."),
    ] = 250,
    steps: Annotated[int, typer.Option(min=1, help="Updates of each of the score's two steps.")] = 4000,
    learning_rate: Annotated[float, typer.Option(help="The highest, after the warm-up.")] = 5e-3,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 12,
) -> None:
    """Train the score of motifs: the probability that a hit has the query's backbone.

    Needs the packages olga and flash-abb. The result is DIR/motif_score.safetensors.
    """
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.files import explain_os_error
    from openfoldpp.motifs.library import Library
    from openfoldpp.training.motif_score import Settings, train

    settings = Settings(fvs=fvs, steps=steps, learning_rate=learning_rate, seed=seed)
    try:
        with Library.open(library, note=typer.echo) as opened:
            path, _ = train(settings, opened, out, say=typer.echo)
    except (OpenFoldPPError, OSError) as error:
        said = explain_os_error(error) if isinstance(error, OSError) else error
        typer.echo(f"openfoldpp train motif-score: {said}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


@app.command("compositor")
def compositor(
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for the modelled antibodies, samples, checkpoints and weights. A run that was "
            "stopped goes on.",
            show_default=False,
        ),
    ],
    library: Annotated[
        Path | None,
        typer.Option(metavar="LIB", help="Library that is searched; by default that of openfoldpp."),
    ] = None,
    fvs: Annotated[
        int,
        typer.Option(min=8, help="Generated antibody Fvs that are composed; the last are measured on."),
    ] = 600,
    epochs: Annotated[int, typer.Option(min=1, help="Times that all of them are learned from.")] = 8,
    rounded_epochs: Annotated[
        int, typer.Option(min=0, help="Further epochs, with weights and inputs in 8 bits.")
    ] = 2,
    batch: Annotated[int, typer.Option(min=1, help="Fvs in each update.")] = 4,
    learning_rate: Annotated[float, typer.Option(help="The highest, after the warm-up.")] = 5e-3,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 20,
    smoke_test: Annotated[
        bool,
        typer.Option(
            "--smoke-test",
            help="Overfit ten Fvs with a small library made for it, and fail unless the TM-score rises, to "
            "above 0.9.",
        ),
    ] = False,
) -> None:
    """Train the network that puts motifs together to a coarse model.

    Needs the packages olga, flash-abb and pytorch-lightning. The result is DIR/compositor.safetensors, in 8
    bits, and DIR/compositor.json, with the calibration of the confidence on Fvs that were not learned from.
    """
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.files import explain_os_error
    from openfoldpp.motifs import default_library
    from openfoldpp.motifs.library import Library
    from openfoldpp.training import compositor as recipe

    settings = recipe.Settings(
        fvs=fvs,
        epochs=epochs,
        rounded_epochs=rounded_epochs,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
    )
    words = (
        f"{f'--library {library} ' if library else ''}--fvs {fvs} --epochs {epochs} --rounded-epochs "
        f"{rounded_epochs} --batch {batch} --learning-rate {learning_rate} --seed {seed}"
    )
    try:
        if smoke_test:
            before, reached = recipe.smoke_test(out, say=typer.echo)
            typer.echo(
                f"TM-score {reached:.4f}, {before:.4f} before it learned; expected above that and "
                f"{recipe.SMOKE_TM}"
            )
            if reached <= max(before, recipe.SMOKE_TM):
                raise typer.Exit(1)
            return
        with Library.open(library or default_library.path(), note=typer.echo) as opened:
            path, _ = recipe.train(
                settings, opened, out, made_by=f"openfoldpp train compositor {words}", say=typer.echo
            )
    except (OpenFoldPPError, OSError) as error:
        said = explain_os_error(error) if isinstance(error, OSError) else error
        typer.echo(f"openfoldpp train compositor: {said}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
