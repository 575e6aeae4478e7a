"""The flow of gradients while something trains: looked at now and then, shown, and written down."""

from throughtime.flow_record.record import FlowRecord, Look
from throughtime.flow_record.recorder import FlowRecorder

__all__ = ["FlowRecord", "FlowRecorder", "Look"]
