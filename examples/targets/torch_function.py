"""An LSTM step as a torch.autograd.Function with its own backward pass.

throughtime check torch_function.py:target
"""

import torch

import throughtime as tt


class Step(torch.autograd.Function):
    """(z, c) -> (h, c): z (B, 4H) holds the pre-activations of i, f, a and o."""

    @staticmethod
    def forward(ctx, z, c):
        i, f, a, o = z.chunk(4, dim=1)
        i, f, a, o = i.sigmoid(), f.sigmoid(), a.tanh(), o.sigmoid()
        after = f * c + i * a
        ctx.save_for_backward(i, f, a, o, c, after.tanh())
        return o * after.tanh(), after

    @staticmethod
    def backward(ctx, dh, dc):
        i, f, a, o, c, y = ctx.saved_tensors
        dc = dc + dh * o * (1 - y**2)
        dz = [dc * a * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - a**2), dh * y * o * (1 - o)]
        return torch.cat(dz, dim=1), dc * f


def target():
    """The step at random z and c; its outputs, h and c, are weighted at random."""
    torch.manual_seed(0)
    z = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    c = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    return tt.target_of(Step, z, c)
