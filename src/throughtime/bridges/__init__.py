"""Ways to other libraries; none of them is imported unless the user has."""

from throughtime.bridges.torch_weights import from_torch, to_torch, torch_state_dict

__all__ = ["from_torch", "to_torch", "torch_state_dict"]
