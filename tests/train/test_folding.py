import copy

import pytest
import torch
from torch import nn

from surgery.models import build
from surgery.train.folding import FoldedNetwork, FoldingError


def trained_a_little(network, shape):
    """Statistics and gains of batch norm that are not those of a new network."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for tensor in (module.running_mean, module.running_var, *module.parameters()):
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        for parameter in network.parameters():
            parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return torch.rand(3, *shape, generator=generator)


class Transposed(nn.Sequential):
    def __init__(self):
        up = nn.ConvTranspose2d(3, 6, 2, stride=2), nn.BatchNorm2d(6)
        down = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False)
        super().__init__(*up, *down)


NETWORKS = {
    "resnet18": lambda: build("resnet18", width=4),
    "vgg11_bn": lambda: build("vgg11_bn", width=4),
    "mobilenet": lambda: build("torchvision:mobilenet_v3_small", num_classes=10),
    "transposed": Transposed,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_refreshed_network_computes_what_the_network_computes_now(name):
    network = NETWORKS[name]().eval()
    folded = FoldedNetwork(network, torch.zeros(1, 3, 32, 32), dtype=torch.float32, channels_last=True)
    images = trained_a_little(network, (3, 32, 32))
    with torch.no_grad():
        expected = network(images)
        assert not torch.allclose(folded(images), expected, rtol=1e-2)  # as of before
        folded.refresh()
        # Sums in another order, through twenty layers.
        assert torch.allclose(folded(images), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_folding_leaves_the_network_as_it_is():
    network = build("resnet18", width=4).train()
    state = copy.deepcopy(network.state_dict())
    folded = FoldedNetwork(network, torch.zeros(1, 3, 32, 32), dtype=torch.bfloat16, channels_last=True)
    folded.refresh()
    assert network.training
    assert all(p.requires_grad and p.is_contiguous() for p in network.parameters())
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert not any(p.requires_grad for p in folded.parameters())


def test_a_network_without_batch_norm_says_so():
    with pytest.raises(FoldingError, match="no batch norm follows"):
        FoldedNetwork(build("vgg11", width=4), torch.zeros(1, 3, 32, 32), dtype=torch.float32, channels_last=False)


def test_batch_norms_behind_each_other_are_left_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Flatten()).eval()
    with pytest.raises(FoldingError, match="follow each other"):
        FoldedNetwork(network, torch.zeros(1, 3, 8, 8), dtype=torch.float32, channels_last=False)
