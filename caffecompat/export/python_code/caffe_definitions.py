"""Classes and functions that the Python source brings along where torch has no such operator."""

from __future__ import annotations

from caffecompat.export.python_code.fork_definitions import FORK_DEFINITIONS, FORK_NEEDS

DEFINITIONS = FORK_DEFINITIONS | {
    "BatchNorm": '''
class BatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps); both are stored times scale_factor, or of_batch."""

    def __init__(self, channels, eps, of_batch=False):
        super().__init__()
        self.eps, self.of_batch = eps, of_batch
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.zeros(channels))
        self.register_buffer("scale_factor", torch.zeros(1))

    def forward(self, x):
        if self.of_batch:
            return F.batch_norm(x, None, None, None, None, True, 0.0, self.eps)
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
    "Embed": '''
class Embed(nn.Module):
    """The rows of weight that x (...) numbers, plus bias."""

    def __init__(self, rows, outputs, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x):
        y = F.embedding(x.long(), self.weight)
        return y if self.bias is None else y + self.bias
''',
    "Parameter": '''
class Parameter(nn.Module):
    """A learned value."""

    def __init__(self, shape):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(shape))

    def forward(self):
        return self.value
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
    "LSTM": '''
class LSTM(nn.Module):
    """Long short-term memory over x (T, N, ...); cont (T, N) is 0 where a sequence begins.

    Returns h of all steps, and h and c after the last one; both are zero at first if not given.
    """

    def __init__(self, inputs, size, static=0):
        super().__init__()
        self.weight_x = nn.Parameter(torch.zeros(4 * size, inputs))
        self.bias = nn.Parameter(torch.zeros(4 * size))
        if static:
            self.weight_x_static = nn.Parameter(torch.zeros(4 * size, static))
        self.weight_h = nn.Parameter(torch.zeros(4 * size, size))

    def forward(self, x, cont, h=None, c=None, static=None):
        inputs = F.linear(x.flatten(2), self.weight_x, self.bias)
        if static is not None:
            inputs = inputs + F.linear(static.flatten(1), self.weight_x_static)
        start = x.new_zeros(x.shape[1], self.weight_h.shape[1])
        h, c = (start if state is None else state.reshape(start.shape) for state in (h, c))
        hidden = []
        for gates, on in zip(inputs, cont[..., None]):
            c, h = lstm_unit(c * on, gates + F.linear(h * on, self.weight_h))
            hidden.append(h)
        return torch.stack(hidden), h[None], c[None]
''',
    "lstm_unit": '''
def lstm_unit(c, gates):
    """c and h after a step; the gates are input, forget, output and new values."""
    i, f, o, g = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return c, o.sigmoid() * c.tanh()
''',
    "RNN": '''
class RNN(nn.Module):
    """Recurrent layer over x (T, N, ...); cont (T, N) is 0 where a sequence begins.

    Returns its outputs, and the hidden values after the last step, which are zero at first if not
    given.
    """

    def __init__(self, inputs, size, static=0):
        super().__init__()
        self.weight_x = nn.Parameter(torch.zeros(size, inputs))
        self.bias = nn.Parameter(torch.zeros(size))
        if static:
            self.weight_x_static = nn.Parameter(torch.zeros(size, static))
        self.weight_h = nn.Parameter(torch.zeros(size, size))
        self.weight_o = nn.Parameter(torch.zeros(size, size))
        self.bias_o = nn.Parameter(torch.zeros(size))

    def forward(self, x, cont, h=None, static=None):
        inputs = F.linear(x.flatten(2), self.weight_x, self.bias)
        if static is not None:
            inputs = inputs + F.linear(static.flatten(1), self.weight_x_static)
        start = x.new_zeros(x.shape[1], self.weight_h.shape[1])
        h = start if h is None else h.reshape(start.shape)
        hidden = []
        for step, on in zip(inputs, cont[..., None]):
            h = (step + F.linear(h * on, self.weight_h)).tanh()
            hidden.append(h)
        return F.linear(torch.stack(hidden), self.weight_o, self.bias_o).tanh(), h[None]
''',
    "greatest": '''
def greatest(x, count, axis):
    """The count greatest values along axis, and their places; of equal ones the last first."""
    values, places = x.flip(axis).sort(dim=axis, descending=True, stable=True)
    places = x.shape[axis] - 1 - places
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count).to(x.dtype)
''',
    "pyramid": '''
def pyramid(x, pool, bins):
    """x (N, C, H, W) pooled into about bins x bins windows, which are as large as needed."""
    kernel = [-(-n // bins) for n in x.shape[2:]]
    padding = [(k * bins - n + 1) // 2 for k, n in zip(kernel, x.shape[2:])]
    return pool(x, kernel, padding=padding, ceil_mode=True)
''',
    "im2col": '''
def im2col(x, kernel, dilation, padding, stride):
    """The windows of x (N, C, H, W) along the channels, (N, C * kernel, H', W')."""
    columns = F.unfold(x, kernel, dilation, padding, stride)
    sizes = zip(x.shape[2:], kernel, dilation, padding, stride)
    return columns.unflatten(
        2, [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in sizes]
    )
''',
    "mvn": '''
def mvn(x, axes, eps):
    """(x - mean) / (deviation + eps) over axes; eps None for no division."""
    x = x - x.mean(axes, keepdim=True)
    return x if eps is None else x / ((x * x).mean(axes, keepdim=True).sqrt() + eps)
''',
}

# What a definition needs besides.
NEEDS = FORK_NEEDS | {"Scale": ("align",), "Bias": ("align",), "LSTM": ("lstm_unit",)}
