"""What would make the host wait for a GPU, seen on a CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class DeviceReads(TorchDispatchMode):
    """Operations that wait for a GPU, because what comes next depends on a value or on how many there are. A copy from
    the device does nothing on a CPU and is not seen."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "bincount")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        indices = args[1] if operation.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_) else []
        by_mask = any(index is not None and index.dtype == torch.bool for index in indices)
        if by_mask or operation.overloadpacket in [getattr(torch.ops.aten, name) for name in self.WAITS]:
            self.seen.append(str(operation))
        return operation(*args, **(kwargs or {}))
