"""What can be checked: functions, networks, and targets in files."""

from throughtime.targets.file import target_from_file
from throughtime.targets.network import network_target
from throughtime.targets.recognise import as_target

__all__ = ["as_target", "network_target", "target_from_file"]
