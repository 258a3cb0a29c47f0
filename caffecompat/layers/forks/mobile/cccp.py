"""CCCP: cascaded cross channel parametric pooling, a convolution by single pixels."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.convolution import Convolution


@register("CCCP", fork="Network in Network")
class CCCP(Convolution):
    """A Convolution with a kernel of 1 x 1, whose settings are in ``cccp_param``.

    Bottom (N, C, H, W) becomes (N, num_output, H, W); the weight is
    (num_output, C / group, 1, 1). Of ``cccp_param``, which has the fields of
    ``convolution_param``, ``num_output``, ``group``, ``bias_term`` and the fillers are used.
    Source: Lin, Chen and Yan (2013), and the definitions of mavenlin's Caffe.
    """

    fork_fields = ("cccp_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.cccp_param
        self.check(
            not (p.kernel_size or p.pad or p.stride or p.dilation),
            "cccp_param: kernel_size, pad, stride and dilation have no meaning for it",
        )
        as_convolution = type(message)()
        as_convolution.CopyFrom(message)
        as_convolution.convolution_param.CopyFrom(p)
        as_convolution.convolution_param.kernel_size.append(1)
        super().setup(as_convolution, bottoms)
