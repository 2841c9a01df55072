"""A snapshot of everything of the user's that an explanation must leave alone, and what differs from it."""

import random
import warnings

import numpy as np
import torch
import torch.utils._python_dispatch
from torch import nn

HOOK_DICTS = sorted(
    name for name in nn.Module().__dict__ if name.endswith(("_hooks", "_with_kwargs", "_always_called"))
)
GLOBAL_HOOKS = sorted(
    name for name in vars(torch.nn.modules.module) if name.startswith("_global") and name.endswith("_hooks")
)


def tensor_state(tensor):
    inference = tensor.is_inference()
    return {
        "value": tensor.detach().clone(),
        "version": None if inference else tensor._version,
        "data_ptr": tensor.data_ptr(),
        "strides": (tensor.shape, tensor.stride(), tensor.dtype),
        "requires_grad": tensor.requires_grad,
        "grad_fn": tensor.grad_fn,
        "grad": None if not tensor.is_leaf or tensor.grad is None else tensor.grad.clone(),
        "grad_id": id(tensor.grad) if tensor.is_leaf else None,
        "hooks": None if tensor._backward_hooks is None else dict(tensor._backward_hooks),
        "accumulate": str(getattr(tensor, "_post_accumulate_grad_hooks", None)),
        "attributes": sorted(vars(tensor)) if hasattr(tensor, "__dict__") else [],
    }


def module_state(module):
    state = {name: dict(getattr(module, name)) for name in HOOK_DICTS}
    state["keys"] = list(module.__dict__)
    state["training"] = module.training
    state["children"] = {name: id(child) for name, child in module._modules.items()}
    state["tensors"] = {
        name: id(tensor) for store in (module._parameters, module._buffers) for name, tensor in store.items()
    }
    plain = (bool, int, float, str, tuple, type(None))
    state["plain"] = {name: v for name, v in vars(module).items() if isinstance(v, plain)}
    return state


def process_state():
    return {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "autocast cache": torch.is_autocast_cache_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "torch rng": torch.get_rng_state(),
        "numpy rng": str(np.random.get_state()),  # noqa: NPY002
        "python rng": random.getstate(),
        "cudnn": [
            getattr(torch.backends.cudnn, name)
            for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
        ],
        "mkldnn": torch.backends.mkldnn.enabled,
        "function mode": torch.overrides._get_current_function_mode(),
        "function modes": len(torch.overrides._get_current_function_mode_stack()),
        "dispatch mode": torch.utils._python_dispatch._get_current_dispatch_mode(),
        "saved tensor hooks": torch._C._autograd._saved_tensors_hooks_is_enabled(),
        "global hooks": {name: dict(getattr(torch.nn.modules.module, name)) for name in GLOBAL_HOOKS},
        "warning filters": list(warnings.filters),
    }


def snapshot(model, *tensors):
    return {
        "process": process_state(),
        "modules": {name: module_state(module) for name, module in model.named_modules()},
        "parameters": {name: tensor_state(p) for name, p in model.named_parameters()},
        "buffers": {name: tensor_state(b) for name, b in model.named_buffers()},
        "inputs": dict(enumerate(map(tensor_state, tensors))),
    }


def differences(before, after, where=""):
    """The places where two snapshots differ, in words."""
    if isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor):
        same = before.shape == after.shape and torch.equal(before, after)
        return [] if same else [where]
    if isinstance(before, dict) and isinstance(after, dict):
        if before.keys() != after.keys():
            return [f"{where}: {sorted(map(str, before.keys() ^ after.keys()))}"]
        return [d for key in before for d in differences(before[key], after[key], f"{where}/{key}")]
    return [] if type(before) is type(after) and before == after else [where]
