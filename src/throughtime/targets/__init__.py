"""What can be checked: functions, networks, and targets in files."""

from throughtime.targets.file import target_from_file
from throughtime.targets.network import network_target

__all__ = ["network_target", "target_from_file"]
