"""Definitions of layers of forks, as :data:`caffecompat.export.python_code.caffe_definitions`."""

from __future__ import annotations

FORK_DEFINITIONS = {
    "BN": '''
class BN(nn.Module):
    """slope (x - mean) / sqrt(variance + eps) + bias, for each channel."""

    def __init__(self, channels, eps):
        super().__init__()
        self.eps = eps
        shape = (1, channels, 1, 1)
        self.slope = nn.Parameter(torch.zeros(shape))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.zeros(shape))

    def forward(self, x):
        parts = (self.mean, self.variance, self.slope, self.bias)
        return F.batch_norm(x, *(part.flatten() for part in parts), eps=self.eps)
''',
    "ScaleShift": '''
class ScaleShift(nn.Module):
    """scale x + shift for each channel; with eps x is first normalized by the batch."""

    def __init__(self, channels, eps=None):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x):
        if self.eps is not None:
            axes = (0, *range(2, x.dim()))
            variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
            x = (x - mean) * (variance + self.eps).rsqrt()
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return x * self.scale.reshape(shape) + self.shift.reshape(shape)
''',
    "BatchNormScaleBias": '''
class BatchNormScaleBias(nn.Module):
    """scale (x - mean) / sqrt(variance + eps) + bias; correction is not read."""

    def __init__(self, channels, eps):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.zeros(channels))
        self.register_buffer("correction", torch.ones(1))

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.variance, self.scale, self.bias, eps=self.eps)
''',
    "FlatLSTM": '''
class FlatLSTM(nn.Module):
    """Long short-term memory whose state is zero at first, and where flags are 0.

    x is (T, N, inputs), or with streams (T * streams, ...).
    """

    def __init__(self, inputs, size, streams=None):
        super().__init__()
        self.streams = streams
        self.weight_x = nn.Parameter(torch.zeros(4 * size, inputs))
        self.weight_h = nn.Parameter(torch.zeros(4 * size, size))
        self.bias = nn.Parameter(torch.zeros(4 * size))

    def forward(self, x, flags=None):
        x = x.unflatten(0, (-1, self.streams)) if self.streams else x
        on = torch.ones_like(x.flatten(2)[..., :1])
        if flags is not None:
            on = (flags.reshape(on.shape) != 0).to(x.dtype)
        h = c = x.new_zeros(x.shape[1], self.weight_h.shape[1])
        hidden = []
        for gates, cont in zip(F.linear(x.flatten(2), self.weight_x, self.bias), on):
            c, h = lstm_unit(c * cont, gates + F.linear(h * cont, self.weight_h))
            hidden.append(h)
        y = torch.stack(hidden)
        return y.flatten(0, 1) if self.streams else y
''',
    "ctc_greedy_decoder": '''
def ctc_greedy_decoder(scores, flags, blank, merge):
    """Labels (N, T, 1, 1) that the best classes of scores (T, N, C) write, then -1; their score.

    A sequence ends before the second step whose flag is 0.
    """
    best, classes = scores.max(2)
    begins = (flags.reshape(classes.shape) + 0.5).long() == 0
    begins[0] = False
    inside = begins.cumsum(0) == 0
    kept = inside & (classes != blank)
    if merge:
        kept[1:] &= classes[1:] != classes[:-1]
    labels = torch.full_like(classes.t(), -1)
    for row, chosen, which in zip(labels, classes.t(), kept.t()):
        row[: int(which.sum())] = chosen[which]
    total = (best * inside).sum(0)
    return labels.to(scores.dtype)[..., None, None], -total.reshape(-1, 1, 1, 1)
''',
    "NormalizedLinear": '''
class NormalizedLinear(nn.Linear):
    """A linear layer that divides each row of its weight by its norm."""

    def forward(self, x):
        return F.linear(x, unit_rows(self.weight), self.bias)
''',
    "Distances": '''
class Distances(nn.Module):
    """Distances of rows to the rows of weight, see distances()."""

    def __init__(self, inputs, count, absolute=False, normalize=False):
        super().__init__()
        self.absolute, self.normalize = absolute, normalize
        self.weight = nn.Parameter(torch.zeros(count, inputs))

    def forward(self, x):
        centers = unit_rows(self.weight) if self.normalize else self.weight
        return distances(x, centers, self.absolute)
''',
    "distances": '''
def distances(x, centers, absolute=False):
    """Sums of squares, or of absolute values, of (..., K) minus each center (M, K): (..., M)."""
    difference = x.unsqueeze(-2) - centers
    return (difference.abs() if absolute else difference.square()).sum(-1)
''',
    "unit_rows": '''
def unit_rows(weight):
    """The rows divided by sqrt(sum of squares + 1e-6)."""
    return weight * (weight.square().sum(1, keepdim=True) + 1e-6).rsqrt()
''',
    "OrientedConv2d": '''
class OrientedConv2d(nn.Conv2d):
    """A convolution with the first of each group of orientations kernels, and it rotated."""

    RING = (0, 1, 2, 5, 8, 7, 6, 3)

    def __init__(self, *arguments, orientations, **options):
        super().__init__(*arguments, **options)
        self.orientations = orientations

    def forward(self, x):
        return self._conv_forward(x, self.rotated(), self.bias)

    def rotated(self):
        n = self.orientations
        outputs, inputs = (channels // n for channels in self.weight.shape[:2])
        first = self.weight.reshape(outputs, n, inputs, n, -1)[:, 0]
        turned = []
        for turn in range(n):
            source = [first.shape[-1] // 2] * first.shape[-1]
            for place, element in enumerate(self.RING if len(source) > 1 else ()):
                source[self.RING[(place + turn * 8 // n) % 8]] = element
            turned.append(first.roll(turn, 2)[..., source])
        return torch.stack(turned, 1).reshape(self.weight.shape)
''',
    "middle": '''
def middle(x, reference):
    """The middle of x with the spatial extents of reference."""
    for axis in range(2, x.dim()):
        extent = reference.shape[axis]
        x = x.narrow(axis, (x.shape[axis] - extent) // 2, extent)
    return x
''',
    "scaled_about_corner": '''
def scaled_about_corner(x, ratio):
    """Maps (N, C, H, W) resized by ratio about the upper left corner, in the same shape."""
    shares = []
    for extent in x.shape[2:]:
        at = torch.arange(extent, dtype=torch.float64) / ratio
        share = (1 - (at[:, None] - torch.arange(extent)).abs()).clamp(min=0)
        shares.append((share * (at < extent)[:, None]).to(x))
    return (shares[0] @ x) @ shares[1].t()
''',
    "features_of_scales": '''
def features_of_scales(x, given, sources):
    """Features at given scales of each image, as those of the scales (which one, ratio)."""
    images = x[: len(x) // given * given].unflatten(0, (-1, given))
    parts = [scaled_about_corner(images[:, at], ratio) for at, ratio in sources]
    return torch.stack(parts, 1).flatten(0, 1)
''',
    "Normalize": '''
class Normalize(nn.Module):
    """scale x / sqrt(sum of squares over axes + eps)."""

    def __init__(self, shape, over_space, eps):
        super().__init__()
        self.over_space, self.eps = over_space, eps
        self.scale = nn.Parameter(torch.ones(shape))

    def forward(self, x):
        axes = tuple(range(1, x.dim())) if self.over_space else 1
        norm = (x.square().sum(axes, keepdim=True) + self.eps).sqrt()
        shape = (-1,) + (1,) * (x.dim() - 2) if self.scale.dim() else ()
        return x / norm * self.scale.reshape(shape)
''',
    "prior_boxes": '''
def prior_boxes(size, image, step, offset, boxes, variances, clip):
    """Corners of boxes at each place of a map, in parts of the image, and their variances.

    boxes: width, height, x and y of the centre from that of the place, and whether its centre is
    at the lower edge of the place instead; all in pixels.
    """
    def rounded(values):
        return values.float().double()

    y, x = (torch.arange(extent, dtype=torch.float64) for extent in size)
    lower = rounded((y + 1) * step[0])
    y, x = rounded((y + offset) * step[0]), rounded((x + offset) * step[1])
    corners = []
    for width, height, right, down, at_lower_edge in boxes:
        across, along = x + right, (lower if at_lower_edge else y) + down
        low = torch.meshgrid(along - height / 2, across - width / 2, indexing="ij")
        high = torch.meshgrid(along + height / 2, across + width / 2, indexing="ij")
        edges = (low[1] / image[1], low[0] / image[0], high[1] / image[1], high[0] / image[0])
        corners.append(torch.stack(edges, -1))
    values = torch.stack(corners, 2).reshape(-1)
    values = values.clamp(0, 1) if clip else values
    spread = torch.tensor(variances, dtype=torch.float64).repeat(len(values) // len(variances))
    return torch.stack([values, spread])[None].float()
''',
}

FORK_NEEDS = {
    "FlatLSTM": ("lstm_unit",),
    "NormalizedLinear": ("unit_rows",),
    "Distances": ("distances", "unit_rows"),
    "features_of_scales": ("scaled_about_corner",),
}
