"""Classes and functions that the Python source brings along where torch has no such operator."""

from __future__ import annotations

DEFINITIONS = {
    "BatchNorm": '''
class BatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps); both are stored times scale_factor."""

    def __init__(self, channels, eps):
        super().__init__()
        self.eps = eps
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.zeros(channels))
        self.register_buffer("scale_factor", torch.zeros(1))

    def forward(self, x):
        share = torch.where(self.scale_factor == 0, 0, 1 / self.scale_factor)
        mean, variance = self.mean * share, self.variance * share
        return F.batch_norm(x, mean, variance, None, None, False, 0.0, self.eps)
''',
    "Scale": '''
class Scale(nn.Module):
    """x times weight, plus bias, along the axes of weight from axis on."""

    def __init__(self, shape, axis, bias=False):
        super().__init__()
        self.axis = axis
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x):
        y = x * align(self.weight, x, self.axis)
        return y if self.bias is None else y + align(self.bias, x, self.axis)
''',
    "Bias": '''
class Bias(nn.Module):
    """x plus bias, along the axes of bias from axis on."""

    def __init__(self, shape, axis):
        super().__init__()
        self.axis = axis
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        return x + align(self.bias, x, self.axis)
''',
    "align": '''
def align(operand, x, axis):
    """operand in a shape that broadcasts against x from axis on."""
    return operand.reshape(operand.shape + (1,) * (x.dim() - axis - operand.dim()))
''',
    "PReLU": '''
class PReLU(nn.Module):
    """max(x, 0) + weight * min(x, 0); weight has no axes if all channels share it."""

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.full(shape, 0.25))

    def forward(self, x):
        return F.prelu(x, self.weight)
''',
    "Transposed": '''
class Transposed(nn.Module):
    """A linear layer whose weight is stored as (inputs, outputs)."""

    def __init__(self, inputs, outputs, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x):
        return F.linear(x, self.weight.t(), self.bias)
''',
    "within_channel": '''
def within_channel(x, size, alpha, beta):
    """Local response normalisation over size x size pixels of the same channel."""
    share = F.avg_pool2d(x * x, size, 1, size // 2)
    return x * (1 + alpha * share) ** -beta
''',
    "crop": '''
def crop(x, reference, axis, offsets):
    """x cut to the extents of reference from axis on."""
    for i, offset in enumerate(offsets, axis):
        x = x.narrow(i, offset, reference.shape[i])
    return x
''',
    "mvn": '''
def mvn(x, axes, eps):
    """(x - mean) / (deviation + eps) over axes; eps None for no division."""
    x = x - x.mean(axes, keepdim=True)
    return x if eps is None else x / ((x * x).mean(axes, keepdim=True).sqrt() + eps)
''',
}

# What a definition needs besides.
NEEDS = {"Scale": ("align",), "Bias": ("align",)}
