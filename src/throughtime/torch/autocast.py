"""What precision results have under autocast: torch's, though the engine computes in the weights'.

In torch's modules the products are done in the lower precision, and what meets a state afterwards
is promoted to the state's. So an initial state in float32, or inputs in float32 without one, give
float32, except where the result is itself a product: h of an RNN and of an LSTM with a projection.
A plain LSTM goes to oneDNN, which is asked for the lower precision throughout: on inputs in
float32, and on inputs in a lower precision whose products the processor has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence


def precisions(module: Any, input: Any, hx: Any, dtype: torch.dtype) -> tuple[Any, Any] | None:
    """Those of outputs and h, and of c; None where they are the weights' own, `dtype`."""
    if not torch.is_autocast_enabled("cpu") or dtype is not torch.float32:
        return None
    packed = isinstance(input, PackedSequence)
    x = input.data if packed else input
    state = hx[0] if isinstance(hx, tuple | list) else hx
    low = torch.get_autocast_dtype("cpu")
    carried = torch.promote_types(low, (x if state is None else state).dtype)
    lstm = module.mode == "LSTM"
    if lstm and not module.proj_size and not packed and _in_one_dnn(x.dtype):
        return low, low
    if module.mode.startswith("RNN") or module.proj_size:
        return low, carried
    return carried, carried


def _in_one_dnn(dtype: torch.dtype) -> bool:
    """Whether torch hands a plain LSTM on inputs of this precision to oneDNN."""
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype is torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype is torch.float32


def rounded(results: Any, dtypes: tuple[Any, Any] | None) -> Any:
    """Outputs and final state in these precisions."""
    if dtypes is None:
        return results
    outputs, final = results
    if isinstance(final, tuple):
        final = (final[0].to(dtypes[0]), final[1].to(dtypes[1]))
    else:
        final = final.to(dtypes[0])
    if isinstance(outputs, PackedSequence):
        outputs = outputs._replace(data=outputs.data.to(dtypes[0]))
    else:
        outputs = outputs.to(dtypes[0])
    return outputs, final
