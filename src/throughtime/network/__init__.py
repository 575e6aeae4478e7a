"""Layers, head and loss, stacked."""

from throughtime.network.network import Network
from throughtime.network.results import Gradients, NetworkTape, Run

__all__ = ["Gradients", "Network", "NetworkTape", "Run"]
