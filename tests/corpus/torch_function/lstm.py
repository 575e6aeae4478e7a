"""An LSTM as a `torch.autograd.Function` with torch's weights: rows i f g o, two biases."""

from __future__ import annotations

from importlib import import_module
from typing import Any

torch: Any = import_module("torch")


class LSTMFunction(torch.autograd.Function):  # type: ignore[misc]
    """hs = f(xs, W_ih, W_hh, b_ih, b_hh, h0, c0)."""

    @staticmethod
    def forward(ctx: Any, faults: Any, xs: Any, *rest: Any) -> Any:
        W_ih, W_hh, b_ih, b_hh, h, c = rest
        hs, cs, gates = [h], [c], []
        from_inputs = xs @ W_ih.t() + b_ih
        for t in range(xs.shape[0]):
            i, f, g, o = (from_inputs[t] + hs[t] @ W_hh.t() + b_hh).chunk(4, dim=1)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            cs.append(f * cs[t] + i * g)
            hs.append(o * cs[t + 1].tanh())
            gates.append(torch.stack([i, f, g, o]))
        ctx.save_for_backward(xs, W_ih, W_hh, *(torch.stack(kept) for kept in (hs, cs, gates)))
        ctx.faults = faults
        return torch.stack(hs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        xs, W_ih, W_hh, hs, cs, gates = ctx.saved_tensors
        (grad_hs,), faults = grads, ctx.faults
        T, H = xs.shape[0], W_hh.shape[1]
        grad_z = torch.empty(T, xs.shape[1], 4 * H, dtype=xs.dtype)
        grad_h_next, grad_c_next = torch.zeros_like(hs[0]), torch.zeros_like(hs[0])
        for t in range(T - 1, -1, -1):
            s = T - 1 if "last_cache_at_every_step" in faults else t
            i, f, g, o = gates[s]
            c_prev, tanh_c = cs[s], cs[s + 1].tanh()
            if "truncated" in faults and t % 3 == 2:
                grad_h_next, grad_c_next = grad_h_next * 0, grad_c_next * 0
            if "dh_next_missing" in faults:
                grad_h_next = grad_h_next * 0
            if "dc_next_missing" in faults:
                grad_c_next = grad_c_next * 0
            grad_h = grad_hs[t] + grad_h_next
            if "dh_overwritten" in faults and t + 1 < T:
                grad_h = grad_h_next
            if "term_counted_twice" in faults:
                grad_c_next = grad_c_next + grad_c_next
            grad_c = grad_c_next + grad_h * o * (1 - tanh_c * tanh_c)
            grad_i, grad_f, grad_g = grad_c * g, grad_c * c_prev, grad_c * i
            if "current_c_for_previous" in faults:
                grad_f = grad_c * cs[s + 1]
            if "gates_swapped_in_dc" in faults:
                grad_i, grad_g = grad_g, grad_i
            slope_g = 1 - g * g
            if "derivative_of_activated_value" in faults:
                slope_g = 1 - g.tanh() ** 2
            if "derivative_missing" in faults:
                slope_g = torch.ones_like(g)
            grad_o = grad_h * tanh_c * o * (1 - o)
            grad_z[t] = torch.cat(
                [grad_i * i * (1 - i), grad_f * f * (1 - f), grad_g * slope_g, grad_o], dim=1
            )
            U = W_hh
            if "recurrent_untransposed" in faults:
                U = torch.cat([block.t() for block in W_hh.split(H)])
            if "wrong_matrix" in faults:
                U = W_hh.roll(H, 0)
            grad_h_next, grad_c_next = grad_z[t] @ U, grad_c * f
        return None, grad_z @ W_ih, *weight_gradients(grad_z, xs, hs, faults), None, None


def weight_gradients(grad_z: Any, xs: Any, hs: Any, faults: Any) -> tuple[Any, Any, Any, Any]:
    """Of W_ih, W_hh, b_ih and b_hh, from all steps at once."""
    before, H = hs[:-1], hs.shape[2]
    if "current_h_for_previous" in faults:
        before = hs[1:]
    if "wrapped_initial_state" in faults:
        before = torch.cat([hs[-1:], hs[1:-1]])
    if "states_off_by_one" in faults:
        before = hs[:-1].roll(1, 0)
    if "time_reversed" in faults:
        xs = xs.flip(0)
    if "sequences_swapped" in faults:
        xs = xs.flip(1)
    if "gates_permuted" in faults:
        i, f, g, o = grad_z.split(H, dim=2)
        grad_z = torch.cat([i, f, o, g], dim=2)
    if "gate_scaled" in faults:
        grad_z = torch.cat([grad_z[..., : 3 * H], 1.5 * grad_z[..., 3 * H :]], dim=2)
    steps = slice(0, 1) if "only_last_step_kept" in faults else slice(None)
    z = grad_z[steps].flatten(0, 1)
    grad_W_ih = z.t() @ xs[steps].flatten(0, 1)
    grad_W_hh = z.t() @ before[steps].flatten(0, 1)
    grad_b = z.mean(0) if "bias_averaged" in faults else z.sum(0)
    if "bias_of_gate_copied" in faults:
        grad_b = torch.cat([grad_b[:H], grad_b[:H], grad_b[2 * H :]])
    if "gradient_transposed" in faults:
        grad_W_hh = torch.cat([block.t() for block in grad_W_hh.split(H)])
    if "tensor_scaled" in faults:
        grad_W_ih = 1.5 * grad_W_ih
    if "zero_gradient" in faults:
        grad_W_ih = torch.zeros_like(grad_W_ih)
    if "random_buffer" in faults:
        grad_W_hh = torch.rand_like(grad_W_hh) + grad_W_hh
    return grad_W_ih, grad_W_hh, grad_b, grad_b.clone()
