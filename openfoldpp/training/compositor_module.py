"""GraphCompositor as a Lightning module: the loss, the rate, and the rounding to 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler

from openfoldpp.errors import ConfigError
from openfoldpp.geometry.differentiable_tm import differentiable_tm_score
from openfoldpp.geometry.lddt import lddt_ca
from openfoldpp.motifs.graph_compositor import Composed, GraphCompositor
from openfoldpp.motifs.graph_weights import rounded_inputs, rounded_parameters
from openfoldpp.training.compositor_samples import Sample
from openfoldpp.training.schedule import warm_up_and_cosine

# What the confidence's loss, of nats, counts beside 1 - TM.
_CONFIDENCE = 0.1
_WEIGHT_DECAY = 1e-3
_WARM_UP = 20


class CompositorModule(lightning.LightningModule):
    """Learns to compose: 1 - mean TM-score, and how far each residue can be trusted.

    Parameters
    ----------
    model : GraphCompositor
        Trained in place.
    learning_rate : float
        The highest; it falls along a cosine.
    steps : int
        Updates in all.
    is_rounded : bool
        Whether weights and the inputs of layers are rounded to 8 bits as it learns (quantisation-aware
        training; gradients pass straight through, Bengio et al. 2013, arXiv 1308.3432).
    """

    def __init__(self, model: GraphCompositor, *, learning_rate: float, steps: int, is_rounded: bool = False):
        super().__init__()
        self.model = model
        self.learning_rate, self.steps, self.is_rounded = learning_rate, steps, is_rounded
        self.seen: list[tuple[float, float]] = []

    def forward(self, graph: dict[str, Tensor]) -> Composed:
        """Compose a `graph`, rounded if the module is."""
        if not self.is_rounded:
            return self.model(graph)
        hooks = [
            part.register_forward_pre_hook(_round_channels if isinstance(part, nn.Conv1d) else _round_last)
            for part in self.model.modules()
            if isinstance(part, nn.Linear | nn.Conv1d)
        ]
        try:
            return functional_call(self.model, rounded_parameters(self.model), (graph,))
        finally:
            for hook in hooks:
                hook.remove()

    def training_step(self, batch: list[Sample], index: int) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        batch : list of Sample
            Graphs of any size.
        index : int
            Number of the batch.

        Returns
        -------
        torch.Tensor of shape ()
        """
        scores, errors = [], []
        for sample in batch:
            made = self(sample.graph)
            covered = sample.graph["mask"].any(0)
            scores.append(differentiable_tm_score(made.ca, sample.truth, covered))
            right = lddt_ca(made.ca, sample.truth, covered)
            errors.append(F.binary_cross_entropy_with_logits(made.confidence[covered], right[covered]))
        tm, confidence = torch.stack(scores).mean(), torch.stack(errors).mean()
        self.seen.append((tm.item(), confidence.item()))
        return 1 - tm + _CONFIDENCE * confidence

    def configure_optimizers(self) -> Any:
        """Return AdamW, and the rate of each step."""
        optimiser = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: warm_up_and_cosine(step, self.steps, highest=1.0, warm_up=_WARM_UP)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Shuffled(Sampler[int]):
    """Numbers in an order that follows from the seed and the epoch, also in a run that goes on.

    Parameters
    ----------
    count : int
        How many.
    seed : int
        Of the order.
    """

    def __init__(self, count: int, seed: int):
        self.count, self.seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.count).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Begin an `epoch`, as Lightning tells."""
        self.epoch = epoch


def batches(samples: Sequence[Sample], batch: int, seed: int) -> DataLoader:
    """Return the samples in lists of `batch`, in an order that follows from the `seed`."""
    return DataLoader(samples, batch, sampler=Shuffled(len(samples), seed), collate_fn=list)


class Epochs(lightning.Callback):
    """Says how each epoch went, and writes the checkpoint; refuses one of other settings.

    Parameters
    ----------
    checkpoint : pathlib.Path
        The file.
    settings : mapping
        What decides the run.
    say : callable
        Gets a line of text for each epoch.
    """

    def __init__(self, checkpoint: Path, settings: Mapping[str, Any], say: Callable[[str], None]):
        self.checkpoint, self.settings, self.say = checkpoint, dict(settings), say

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint keeps of this."""
        return self.settings

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare the settings in a checkpoint, its `state_dict`, with those of this run."""
        other = [
            f"{key} {state_dict.get(key)!r}, not {now!r}"
            for key, now in self.settings.items()
            if state_dict.get(key) != now
        ]
        if other:
            raise ConfigError(
                f"{self.checkpoint} is of a run with {'; '.join(other)}: give its settings, or another --out"
            )

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: CompositorModule) -> None:
        """Say what the `module` reached in this epoch of the `trainer`'s, and keep it."""
        scores, errors = zip(*module.seen, strict=True)
        module.seen.clear()
        self.say(
            f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            f"{', 8 bits' if module.is_rounded else ''}: TM {sum(scores) / len(scores):.4f}, confidence "
            f"{sum(errors) / len(errors):.4f} nats"
        )
        trainer.save_checkpoint(self.checkpoint)


def _round_last(part: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
    return (rounded_inputs(inputs[0]),)


def _round_channels(part: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
    return (rounded_inputs(inputs[0], dim=-2),)
