"""Compile what would be launched: Triton's compiler needs no card, and takes less than its interpreter does."""

import torch

TYPES = {
    torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.float16: "*fp16",
    torch.uint8: "*u8", torch.int8: "*i8", torch.int16: "*i16", torch.uint16: "*u16", torch.int32: "*i32",
    torch.int64: "*i64", torch.bool: "*i1",
}  # fmt: skip


class Compiler:
    """Takes the place of launching; each kind of launch is compiled once, for a card of this compute capability."""

    def __init__(self, capability):
        self.capability = capability
        self.compiled = {}

    def launch(self, kernel, *args, grid, warmup, **given):
        """As `JITFunction.run`, which computes nothing here."""
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        del grid, warmup
        names = [parameter.name for parameter in kernel.params]
        bound = dict(zip(names, args, strict=False)) | {name: given[name] for name in given if name in names}
        options = {name: value for name, value in given.items() if name not in names}
        signature, constants, attributes = {}, {}, {}
        for parameter in kernel.params:
            value, place = bound[parameter.name], (parameter.num,)
            kind = _kind(value, constant=parameter.is_constexpr)
            signature[parameter.name] = kind
            if kind == "constexpr":
                constants[place] = value
            elif isinstance(value, torch.Tensor) or (kind[0] == "i" and value % 16 == 0):
                attributes[place] = [["tt.divisibility", 16]]
        key = (kernel.fn.__name__, *map(str, (signature, constants, options)))
        if key not in self.compiled:
            target, source = GPUTarget("cuda", self.capability, 32), ASTSource(kernel, signature, constants, attributes)
            self.compiled[key] = triton.compile(source, target=target, options=options)


def _kind(value, *, constant):
    if constant or value is None or (type(value) is int and value == 1):
        return "constexpr"
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, int):
        return "i32" if -(2**31) <= value < 2**31 else "i64"
    return "fp32"
