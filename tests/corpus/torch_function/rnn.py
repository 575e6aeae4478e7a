"""A vanilla RNN as a `torch.autograd.Function` with torch's weights and two biases."""

from __future__ import annotations

from importlib import import_module
from typing import Any

torch: Any = import_module("torch")


class RNNFunction(torch.autograd.Function):  # type: ignore[misc]
    """hs = f(xs, W_ih, W_hh, b_ih, b_hh, h0, unused), tanh."""

    @staticmethod
    def forward(ctx: Any, faults: Any, xs: Any, *rest: Any) -> Any:
        W_ih, W_hh, b_ih, b_hh, h, _ = rest
        hs = [h]
        for x in xs:
            hs.append(torch.tanh(x @ W_ih.t() + b_ih + hs[-1] @ W_hh.t() + b_hh))
        ctx.save_for_backward(xs, W_ih, W_hh, torch.stack(hs))
        ctx.faults = faults
        return torch.stack(hs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        xs, W_ih, W_hh, hs = ctx.saved_tensors
        (grad_hs,), faults = grads, ctx.faults
        grad_W_ih, grad_W_hh = torch.zeros_like(W_ih), torch.zeros_like(W_hh)
        grad_b = torch.zeros_like(W_hh[0])
        grad_xs = torch.zeros_like(xs)
        T, grad_h_next = len(xs), torch.zeros_like(hs[0])
        for t in reversed(range(T)):
            if "dh_next_missing" in faults or ("truncated" in faults and t % 3 == 2):
                grad_h_next = torch.zeros_like(grad_h_next)
            grad_h = grad_hs[t] + grad_h_next
            if "dh_overwritten" in faults and t != T - 1:
                grad_h = grad_h_next
            if "term_counted_twice" in faults:
                grad_h = grad_h + grad_h_next
            h = hs[-1] if "last_cache_at_every_step" in faults else hs[t + 1]
            grad_z = grad_h * (1 - h * h)
            if "derivative_of_activated_value" in faults:
                grad_z = grad_h * (1 - h.tanh() ** 2)
            if "derivative_missing" in faults:
                grad_z = grad_h
            before, x = operands(hs, xs, t, faults)
            if "only_last_step_kept" in faults:
                grad_W_ih.zero_(), grad_W_hh.zero_(), grad_b.zero_()
            grad_W_ih += grad_z.t() @ x
            grad_W_hh += grad_z.t() @ before
            grad_b += grad_z.mean(0) if "bias_averaged" in faults else grad_z.sum(0)
            grad_h_next = grad_z @ (W_hh.t() if "recurrent_untransposed" in faults else W_hh)
            grad_xs[t] = grad_z @ W_ih
        if "gradient_transposed" in faults:
            grad_W_hh = grad_W_hh.t()
        if "tensor_scaled" in faults:
            grad_W_ih = 1.5 * grad_W_ih
        if "zero_gradient" in faults:
            grad_W_ih = torch.zeros_like(grad_W_ih)
        if "random_buffer" in faults:
            grad_W_hh = grad_W_hh + torch.rand_like(grad_W_hh)
        return None, grad_xs, grad_W_ih, grad_W_hh, grad_b, grad_b.clone(), None, None


def operands(hs: Any, xs: Any, t: int, faults: Any) -> tuple[Any, Any]:
    """h_{t−1} and x_t as the products take them."""
    before, x = hs[t], xs[t]
    if "last_cache_at_every_step" in faults:
        before, x = hs[-2], xs[-1]
    if "current_h_for_previous" in faults:
        before = hs[t + 1]
    if "wrapped_initial_state" in faults:
        before = hs[1:][t - 1]
    if "states_off_by_one" in faults:
        before = hs[t - 1]
    if "time_reversed" in faults:
        x = xs[len(xs) - 1 - t]
    if "sequences_swapped" in faults:
        x = x.flip(0)
    return before, x
