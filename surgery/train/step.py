"""One step of training: attack the images, take the loss, sum gradients over all processes, update the weights."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from surgery.attack import search
from surgery.errors import SurgeryError
from surgery.train.awp import perturbable, perturbed
from surgery.train.batches import Batch
from surgery.train.config import Optimizer
from surgery.train.engine import Engine, buffers_kept, runner
from surgery.train.folding import FoldedNetwork
from surgery.train.objective import Logits, Objective
from surgery.train.processes import Processes


def evaluating_view(network: nn.Module) -> nn.Module:
    """A copy of the network in evaluation mode on the same memory, without gradients of its parameters.

    The view follows the training of the network, which keeps its mode and `requires_grad` while the view is run.
    """
    frozen = {id(tensor): nn.Parameter(tensor.detach(), requires_grad=False) for tensor in network.parameters()}
    shared = {id(tensor): tensor for tensor in network.buffers()}
    return copy.deepcopy(network, {**frozen, **shared}).eval()


class Adversary:
    """Attacks the images of a batch as an objective demands; `notes` say what the attack runs on.

    The network is attacked in evaluation mode, as in the published codes of TRADES and MART: in training mode the
    statistics of batch norm would depend on the iterates, and a dozen forward passes a step would change the running
    ones. It also is the network that an attacker meets.
    """

    def __init__(self, view: nn.Module, batch: Tensor, objective: Objective, engine: Engine) -> None:
        """`view`: an evaluating view of the network. `batch`: images of the size and device of those to come."""
        self.objective = objective
        self.folded: FoldedNetwork | None = None
        self.notes: list[str] = []
        if engine.fold:
            try:
                self.folded = FoldedNetwork(
                    view, batch[:1], dtype=engine.dtype or batch.dtype, channels_last=engine.channels_last
                )
                self.notes.append("attacks with batch norm folded")
            except SurgeryError as error:
                self.notes.append(f"attacks without folding batch norm: {error.message.splitlines()[0]}")
        self.run = runner(view if self.folded is None else self.folded, batch, engine)
        self.notes += [f"attack {self.run.note}"] if self.run.note else []

    def __call__(self, images: Tensor, labels: Tensor, start: Tensor) -> Tensor:
        """Attacked images `(batch, channels, height, width)`, searched from `start` with the present weights."""
        attack, method = self.objective.attack, self.objective.method
        assert attack is not None, "an adversary is made for objectives with an attack"
        if self.folded is not None:
            self.folded.refresh()
        with torch.no_grad():
            # Cloned, for CUDA graphs write the logits of the iterates into the same memory.
            clean = self._logits(images).clone() if method.inner_reads_clean else None

        def inner(iterate: Tensor) -> Tensor:
            return method.inner(self._logits(iterate), clean, labels, attack)

        return search(inner, images, attack, start=start)

    def _logits(self, images: Tensor) -> Tensor:
        self.run.begin_pass(images.device)
        return self.run(images)


class Stepper:
    """Updates the weights of `network` in place, batch after batch; the network is put into training mode.

    `view` is the network in evaluation mode, on the same memory. `columns` names what `step` returns, in order: the
    loss, its terms, and the shares of images that are classified correctly without and under the attack (nan where the
    objective does not compute these logits).
    """

    def __init__(
        self,
        network: nn.Module,
        batch: Tensor,
        *,
        objective: Objective,
        optimizer: Optimizer,
        engine: Engine,
        processes: Processes,
    ) -> None:
        """`batch`: images of the size and device of those to come."""
        self.view = evaluating_view(network)
        self.network = network.train()
        self.objective = objective
        self.processes = processes
        self.trainable = [tensor for tensor in network.parameters() if tensor.requires_grad]
        self.optimizer = torch.optim.SGD(
            self.trainable,
            momentum=optimizer.momentum,
            weight_decay=optimizer.weight_decay,
            nesterov=optimizer.nesterov,
        )
        self.adversary = Adversary(self.view, batch, objective, engine) if objective.attack is not None else None
        self.run = runner(network, batch, engine)
        self.notes = [*(self.adversary.notes if self.adversary else ()), *([self.run.note] if self.run.note else ())]

    @property
    def columns(self) -> tuple[str, ...]:
        cluster = ("cluster",) if self.objective.cluster is not None else ()
        return ("loss", *self.objective.method.names, *cluster, "natural", "robust")

    def step(self, batch: Batch, *, rate: float, perturb: bool) -> Tensor:
        """Train on this process's share of a batch at learning rate `rate`.

        `perturb`: whether adversarial weight perturbation is on. Returns the row of `columns`, of the whole batch,
        still on the device.
        """
        adversarial = self.attacked(batch)
        move = nullcontext()
        if perturb and self.objective.perturbation is not None:
            weights = perturbable(self.network)
            move = perturbed(weights, self._ascent(batch, adversarial, weights), self.objective.perturbation.gamma)
        with move:
            loss, row = self._loss(batch, adversarial)
            loss.backward()
        # Each process has the gradient of its part of the loss, which is divided by the size of the whole batch: summed
        # they are the gradient of the whole batch. A mean over processes would weigh unequal shares alike.
        self.processes.sum_in_place([*(tensor.grad for tensor in self.trainable if tensor.grad is not None), row])
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return row

    def attacked(self, batch: Batch) -> Tensor:
        """The attacked images; the images of the batch where the objective has no attack."""
        return batch.images if self.adversary is None else self.adversary(batch.images, batch.labels, batch.start)

    def _ascent(self, batch: Batch, adversarial: Tensor, weights: list[nn.Parameter]) -> list[Tensor]:
        """The gradient of the loss with respect to the weights; statistics and `.grad` stay as they are."""
        with buffers_kept(self.network):
            loss, _ = self._loss(batch, adversarial)
            found = torch.autograd.grad(loss, weights, allow_unused=True)
        gradients = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]
        # Summed before the perturbation: |g| is the norm of the whole batch's gradient, the same in every process.
        self.processes.sum_in_place(gradients)
        return gradients

    def _loss(self, batch: Batch, adversarial: Tensor) -> tuple[Tensor, Tensor]:
        """This process's part of the loss, and of the row; the parts of all processes add up."""
        method, cluster = self.objective.method, self.objective.cluster
        # Once for both passes: the loss reads both outputs.
        self.run.begin_pass(adversarial.device)
        logits = Logits(
            clean=self.run(batch.images) if method.clean else None,
            adversarial=self.run(adversarial) if method.adversarial else None,
        )
        terms = method.terms(logits, batch.labels, self.objective.beta or 0.0)
        parts = [terms[name].sum() / batch.whole for name in method.names]
        if cluster is not None:
            shown = logits.adversarial if logits.adversarial is not None else logits.clean
            assert shown is not None, "every objective reads some logits"
            # The root of a mean is not the mean of roots: the mean is taken over the whole batch in every process, and
            # each process counts the same penalty, so a share of it.
            penalty = cluster(shown, mean=lambda squares: self.processes.sum(squares.sum(0)) / batch.whole)
            parts.append(penalty / self.processes.count)
        loss = torch.stack(parts).sum()
        correct = [
            torch.full_like(loss, torch.nan) if of is None else (of.argmax(1) == batch.labels).sum() / batch.whole
            for of in (logits.clean, logits.adversarial)
        ]
        return loss, torch.stack([loss, *parts, *correct]).detach()
