"""Train a network of the project."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.console import changes_of, console, readable_errors
from flows.recipe import parsed_values
from flows.train_network import train_network, train_side_chains
from tasks.train_residue_detector import TrainResidueDetectorParams
from tasks.train_side_chain_reader import TrainSideChainReaderParams


class Network(StrEnum):
    """What can be trained."""

    RESIDUES = "residues"
    SIDE_CHAINS = "side-chains"


def train(
    folder: Annotated[Path, typer.Argument(help="Gets checkpoints, weights and the record of the training.")],
    structures: Annotated[list[Path], typer.Option(help="Folder of PDB or mmCIF files to train on; may be repeated.")],
    exclude: Annotated[
        list[Path] | None, typer.Option(help="Structure whose relatives are not to be trained on; may be repeated.")
    ] = None,
    network: Annotated[
        Network, typer.Option(help="The one that finds residues, or the one that then reads their side chains.")
    ] = Network.RESIDUES,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long; the same command goes on.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="One parameter of the training, e.g. n_steps=40000.")
    ] = None,
) -> None:
    """Train a network that builds models, on maps simulated from structures; goes on where it stopped."""
    with readable_errors():
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        given = {
            "structures": [str(path) for path in structures],
            "excluded": [str(path) for path in exclude or []],
            "longest_seconds": seconds,
            **parsed_values(changes_of(change)),
        }
        if network is Network.RESIDUES:
            scores = train_network(str(folder), TrainResidueDetectorParams(**given))
        else:
            scores = train_side_chains(str(folder), TrainSideChainReaderParams(**given))
        table = Table("resolution", *sorted({name for found in scores.values() for name in found}))
        for resolution, found in scores.items():
            table.add_row(resolution, *(f"{found.get(name.header, 0):g}" for name in table.columns[1:]))
        console.print(table)
