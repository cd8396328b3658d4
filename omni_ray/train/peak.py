"""What a device can do at most: dense bf16 floating point operations a second, from the makers' data sheets."""

import torch

_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A10G": 125e12,
    "L40S": 362e12,
    "L4": 121e12,
    "T4": 65e12,
    "4090": 165e12,
    "3090": 71e12,
}


def peak_flops(device: torch.device, devices: int) -> float | None:
    """Of `devices` such devices together; None for a CPU, and for a GPU that is not in the list."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak * devices for known, peak in _PEAKS.items() if known in name), None)
