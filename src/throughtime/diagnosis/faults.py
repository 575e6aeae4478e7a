"""The faults that a diagnosis can name: their identifiers stay from version to version."""

from __future__ import annotations

from throughtime.diagnosis.fault import Fault
from throughtime.diagnosis.faults_of_gradients import OF_GRADIENTS
from throughtime.diagnosis.faults_of_passes import OF_PASSES

__all__ = ["FAULTS", "Fault"]

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (*OF_GRADIENTS, *OF_PASSES)}
