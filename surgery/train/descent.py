"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from surgery.train.foreach import add_all, scale_all
from surgery.train.plan import Optimizer


class Descent:
    """Moves parameters by their gradients, as `torch.optim.SGD`, which takes seconds to import its compiler.

        d = gradient + weight_decay w,   v <- momentum v + d,   w <- w - rate v   (nesterov: w - rate (d + momentum v))

    `velocity` is v by the names of the parameters, zero at first and in their layout; empty without momentum.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], optimizer: Optimizer) -> None:
        self.parameters = {name: tensor for name, tensor in parameters.items() if tensor.requires_grad}
        self.optimizer = optimizer
        moving = self.parameters if optimizer.momentum > 0 else {}
        self.velocity = {name: torch.zeros_like(tensor.detach()) for name, tensor in moving.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take a step at learning rate `rate`, and forget the gradients. What has no gradient stays where it is."""
        names = [name for name, tensor in self.parameters.items() if tensor.grad is not None]
        weights = [self.parameters[name] for name in names]
        updates = [tensor.grad for tensor in weights if tensor.grad is not None]
        momentum = self.optimizer.momentum
        if self.optimizer.weight_decay:
            add_all(updates, weights, self.optimizer.weight_decay)
        if momentum:
            velocity = [self.velocity[name] for name in names]
            scale_all(velocity, momentum)
            add_all(velocity, updates, 1.0)
            if self.optimizer.nesterov:
                add_all(updates, velocity, momentum)
            else:
                updates = velocity
        add_all(weights, updates, -rate)
        for tensor in weights:
            tensor.grad = None
