"""A recurrent Function, a loss that is a Function too, and autograd between them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from corpus.setting import Setting
from corpus.torch_function.gru import GRUFunction
from corpus.torch_function.lstm import LSTMFunction
from corpus.torch_function.rnn import RNNFunction
from throughtime.arrays import Array

torch: Any = import_module("torch")

FUNCTIONS: dict[str, Any] = {"RNN": RNNFunction, "GRU": GRUFunction, "LSTM": LSTMFunction}
BLOCKS = {"RNN": 1, "GRU": 3, "LSTM": 4}


class SoftmaxLoss(torch.autograd.Function):  # type: ignore[misc]
    """One term a step from (hs, weight, bias): the head and its cross-entropy."""

    @staticmethod
    def forward(ctx: Any, s: Setting, labels: Any, hs: Any, *head: Any) -> Any:
        weight, bias = head
        log_p = torch.log_softmax(hs @ weight.t() + bias, dim=2)
        scale = 1.0
        if s.time == "mean":
            scale /= s.T
        if s.batch == "mean":
            scale /= s.B
        ctx.save_for_backward(hs, weight, log_p.exp(), labels)
        ctx.s, ctx.scale = s, scale
        return -log_p.gather(2, labels[..., None]).sum((1, 2)) * scale

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        hs, weight, P, labels = ctx.saved_tensors
        s, scale, faults = ctx.s, ctx.scale, ctx.s.faults
        if "targets_shifted" in faults:
            labels = labels.roll(-1, 0)
        onehot = torch.nn.functional.one_hot(labels, s.O).to(P.dtype)
        dy = P - onehot
        if "different_loss" in faults:
            dy = 2 * dy * P * (1 - P)
        if "softmax_derivative_twice" in faults:
            dy = P * (dy - (P * dy).sum(2, keepdim=True))
        if "averaged_over_steps" in faults:
            scale /= s.T
        if "summed_over_steps" in faults:
            scale *= s.T
        if "divided_by_batch" in faults:
            scale /= s.B
        if "divided_by_classes" in faults:
            scale /= s.O
        dy = dy * scale * grads[0][:, None, None]
        if "output_gradient_at_last_step_only" in faults:
            dy[:-1] = 0
        if "states_off_by_one" in faults:
            hs = torch.cat([torch.zeros_like(hs[:1]), hs[:-1]])
        dweight = torch.einsum("tbo,tbh->oh", dy, hs)
        return None, None, dy @ weight, dweight, dy.sum((0, 1))


def parameters(s: Setting) -> dict[str, Array]:
    """By torch's names: W_ih (G·H, I), W_hh (G·H, H), b_ih, b_hh (G·H,), weight (O, H), bias."""
    rows = BLOCKS[s.cell] * s.H
    shapes = {"W_ih": (rows, s.I), "W_hh": (rows, s.H), "b_ih": (rows,), "b_hh": (rows,)}
    shapes |= {"weight": (s.O, s.H), "bias": (s.O,)}
    return {name: s.weights(place, *shape) for place, (name, shape) in enumerate(shapes.items())}


class Model:
    """Loss and gradient at the arrays `p`, whose memory torch's tensors share."""

    def __init__(self, s: Setting, p: Mapping[str, Array]) -> None:
        self.s = s
        self.p = {name: torch.from_numpy(array).requires_grad_() for name, array in p.items()}
        self.xs, self.labels = torch.from_numpy(s.inputs()), torch.from_numpy(s.labels())
        self.h, self.c = torch.from_numpy(s.start(0)), torch.from_numpy(s.start(1))

    def terms(self) -> Any:
        """(T,), and the L2 term where there is one."""
        s, (W_ih, W_hh, b_ih, b_hh, weight, bias) = self.s, self.p.values()
        recurrent = (W_ih, W_hh, b_ih, b_hh, self.h, self.c)
        hs = FUNCTIONS[s.cell].apply(s.faults, self.xs, *recurrent)
        terms = SoftmaxLoss.apply(s, self.labels, hs, weight, bias)
        if not s.decay:
            return terms
        decay = sum((W**2).sum() for W in (W_ih, W_hh, weight)) * (s.decay / 2)
        if "weight_decay_missing" in s.faults:
            decay = decay.detach()
        if "weight_decay_doubled" in s.faults:
            decay = 2 * decay - decay.detach()
        return torch.cat([terms, decay[None]])

    def loss(self) -> Array:
        """One number, added up in the model's own precision, or the terms."""
        with torch.no_grad():
            terms = self.terms()
            return (terms if self.s.terms else terms.sum()).numpy()  # type: ignore[no-any-return]

    def gradient(self) -> dict[str, Array]:
        """By name, like the parameters."""
        faults, tensors = self.s.faults, tuple(self.p.values())
        if "accumulated_without_zeroing" in faults:
            self.terms().sum().backward()
            return {name: tensor.grad.numpy().copy() for name, tensor in self.p.items()}
        found = torch.autograd.grad(self.terms().sum(), tensors)
        for name, factor in (("factor_two", 2.0), ("factor_half", 0.5), ("wrong_sign", -1.0)):
            if name in faults:
                found = [factor * d for d in found]
        if "clipped_by_value" in faults:
            found = [d.clamp(-0.1, 0.1) for d in found]
        if "clipped_by_norm" in faults:
            norm = torch.cat([d.flatten() for d in found]).norm()
            found = [d * min(1.0, 0.25 / float(norm)) for d in found]
        if "updated_in_backward" in faults:
            with torch.no_grad():
                for tensor, d in zip(tensors, found, strict=True):
                    tensor -= 0.1 * d
        return {name: d.numpy() for name, d in zip(self.p, found, strict=True)}
