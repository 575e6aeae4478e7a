"""A GRU as a `torch.autograd.Function`, reset after the product; torch's weights: rows r z n."""

from __future__ import annotations

from importlib import import_module
from typing import Any

torch: Any = import_module("torch")


class GRUFunction(torch.autograd.Function):  # type: ignore[misc]
    """hs = f(xs, W_ih, W_hh, b_ih, b_hh, h0, unused)."""

    @staticmethod
    def forward(ctx: Any, faults: Any, xs: Any, *rest: Any) -> Any:
        W_ih, W_hh, b_ih, b_hh, h, _ = rest
        hs, kept = [h], []
        for x in xs:
            xr, xz, xn = (x @ W_ih.t() + b_ih).chunk(3, dim=1)
            hr, hz, hn = (h @ W_hh.t() + b_hh).chunk(3, dim=1)
            r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
            n = (xn + r * hn).tanh()
            h = n + z * (h - n)
            hs.append(h)
            kept.append(torch.stack([r, z, n, hn]))
        ctx.save_for_backward(xs, W_ih, W_hh, torch.stack(hs), torch.stack(kept))
        ctx.faults = faults
        return torch.stack(hs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        xs, W_ih, W_hh, hs, kept = ctx.saved_tensors
        (grad_hs,), faults = grads, ctx.faults
        T, H = xs.shape[0], W_hh.shape[1]
        into_x, into_h = [], []  # δ of x W_ihᵀ and of h W_hhᵀ, which differ in their last block
        grad_h_next = torch.zeros_like(hs[0])
        for t in reversed(range(T)):
            s = T - 1 if "last_cache_at_every_step" in faults else t
            (r, z, n, hn), h_prev = kept[s], hs[s]
            if "dh_next_missing" in faults or ("truncated" in faults and t % 3 == 2):
                grad_h_next = torch.zeros_like(grad_h_next)
            grad_h = grad_hs[t] + grad_h_next
            if "dh_overwritten" in faults and t < T - 1:
                grad_h = grad_h_next
            if "term_counted_twice" in faults:
                grad_h = grad_h + grad_h_next
            grad_n = grad_h * (1 - z) * (1 - n * n)
            if "derivative_of_activated_value" in faults:
                grad_n = grad_h * (1 - z) * (1 - n.tanh() ** 2)
            grad_z = grad_h * (h_prev - n) * z * (1 - z)
            if "derivative_missing" in faults:
                grad_z = grad_h * (h_prev - n)
            if "update_gate_term_missing" in faults:
                grad_z = -grad_h * n * z * (1 - z)
            grad_r = grad_n * hn * r * (1 - r)
            into_x.append(torch.cat([grad_r, grad_z, grad_n], dim=1))
            into_h.append(torch.cat([grad_r, grad_z, grad_n * r], dim=1))
            U = W_hh
            if "recurrent_untransposed" in faults:
                U = torch.cat([block.t() for block in W_hh.split(H)])
            if "wrong_matrix" in faults:
                U = W_hh.roll(H, 0)
            direct, gates = grad_h * z, into_h[-1] @ U
            grad_h_next = direct + gates
            if "direct_path_only" in faults:
                grad_h_next = direct
            if "direct_path_missing" in faults:
                grad_h_next = gates
        x_side, h_side = (torch.stack(side[::-1]) for side in (into_x, into_h))
        found = weight_gradients(x_side, h_side, xs, hs, faults)
        return None, x_side @ W_ih, *found, None, None


def weight_gradients(x_side: Any, h_side: Any, xs: Any, hs: Any, faults: Any) -> list[Any]:
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
    if "only_last_step_kept" in faults:
        x_side, h_side, xs, before = x_side[:1], h_side[:1], xs[:1], before[:1]
    over = torch.mean if "bias_averaged" in faults else torch.sum
    W_ih = torch.einsum("tbg,tbi->gi", x_side, xs)
    W_hh = torch.einsum("tbg,tbh->gh", h_side, before)
    b_ih, b_hh = (over(side, (0, 1)) for side in (x_side, h_side))
    if "bias_of_gate_copied" in faults:
        b_ih = torch.cat([b_ih[:H], b_ih[:H], b_ih[2 * H :]])
    if "gradient_transposed" in faults:
        W_hh = torch.cat([block.t() for block in W_hh.split(H)])
    if "tensor_scaled" in faults:
        W_ih = 1.5 * W_ih
    if "zero_gradient" in faults:
        b_hh = torch.zeros_like(b_hh)
    if "random_buffer" in faults:
        W_hh = W_hh + torch.rand_like(W_hh)
    found = [W_ih, W_hh, b_ih, b_hh]
    if "gates_permuted" in faults:
        found = [torch.cat([d[H : 2 * H], d[:H], d[2 * H :]]) for d in found]
    if "gate_scaled" in faults:
        found = [torch.cat([d[: 2 * H], 1.5 * d[2 * H :]]) for d in found]
    return found
